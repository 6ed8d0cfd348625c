"""Adapters to other people's software, each in its own module that imports its host when it is used."""
