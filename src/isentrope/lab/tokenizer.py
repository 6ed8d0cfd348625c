"""Text to token ids and back.

A laboratory model speaks a few dozen symbols, so a token is a character: nothing has to be learnt about spelling, and
every entropy the laboratory reports is per character. `Tokenizer` is what the laboratory asks of any tokenizer;
`CharacterTokenizer` is the tiny models' own.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from isentrope._files import write_atomically

ALPHABET = "0123456789+-*/=()<>;:,.?! abcdefghijklmnopqrstuvwxyz"


class Tokenizer(Protocol):
    """What the laboratory needs of a tokenizer."""

    @property
    def pad_id(self) -> int:
        """Id that fills the unused positions of a batch."""
        ...

    @property
    def eos_id(self) -> int:
        """Id that ends a completion."""
        ...

    def __len__(self) -> int:
        """Number of token ids."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of `text` as it stands, without special tokens."""
        ...

    def encode_prompt(self, text: str) -> list[int]:
        """Token ids of `text` as a prompt: what a model sees before its completion."""
        ...

    def decode(self, token_ids: Iterable[int]) -> str:
        """Text of `token_ids`, special tokens left out."""
        ...

    def tokens(self, token_ids: Iterable[int]) -> list[str]:
        """Each token as a string to show, special tokens included."""
        ...

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer's files into `folder`."""
        ...


class CharacterTokenizer:
    """One token a character, over a fixed alphabet; id 0 pads, id 1 ends a text.

    Args:
        alphabet: the characters, each once; character ``alphabet[i]`` has id ``i + 2``.

    Raises:
        ValueError: if a character occurs twice or the alphabet is empty.

    Examples:
        >>> tokenizer = CharacterTokenizer("0123456789+=")
        >>> tokenizer.encode("1+2=")
        [3, 12, 4, 13]
        >>> tokenizer.decode([3, 12, 4, 13, tokenizer.eos_id, tokenizer.pad_id])
        '1+2='
        >>> tokenizer.tokens([3, tokenizer.eos_id])
        ['1', '<eos>']
    """

    pad_id = 0
    eos_id = 1

    def __init__(self, alphabet: str = ALPHABET) -> None:
        if not alphabet:
            raise ValueError("alphabet: must hold at least one character")
        repeated = sorted({character for character in alphabet if alphabet.count(character) > 1})
        if repeated:
            raise ValueError(f"alphabet: each character may occur once, but {repeated[0]!r} occurs more often")
        self.alphabet = alphabet
        self._tokens = ["<pad>", "<eos>", *alphabet]
        self._shown = ["", "", *alphabet]
        self._ids = {character: index for index, character in enumerate(self._tokens) if index > 1}

    def __len__(self) -> int:
        """Number of token ids, padding and end included."""
        return len(self._tokens)

    def __eq__(self, other: object) -> bool:
        """Tokenizers over the same alphabet are equal."""
        return isinstance(other, CharacterTokenizer) and other.alphabet == self.alphabet

    def __hash__(self) -> int:
        """Hash of the alphabet."""
        return hash(self.alphabet)

    def __repr__(self) -> str:
        """The call that makes this tokenizer."""
        return f"CharacterTokenizer({self.alphabet!r})"

    def encode(self, text: str) -> list[int]:
        """Ids of the characters of `text`.

        Args:
            text: a string over the alphabet.

        Returns:
            One id a character.

        Raises:
            ValueError: naming the first character that the alphabet lacks and its position.

        Examples:
            >>> CharacterTokenizer("ab").encode("abc")
            Traceback (most recent call last):
            ValueError: text: character 'c' at position 2 is not in the alphabet 'ab'
        """
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            character = error.args[0]
            raise ValueError(
                f"text: character {character!r} at position {text.index(character)} is not in the alphabet "
                f"{self.alphabet!r}"
            ) from None

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a prompt; for this tokenizer the same as `encode`."""
        return self.encode(text)

    def decode(self, token_ids: Iterable[int]) -> str:
        """Text of `token_ids`; padding and end are left out.

        Raises:
            ValueError: naming the first id outside the vocabulary.
        """
        shown = self._shown
        return "".join([shown[index] for index in self._checked(token_ids)])

    def tokens(self, token_ids: Iterable[int]) -> list[str]:
        """Each token as a string to show; padding is ``<pad>``, the end ``<eos>``.

        Raises:
            ValueError: naming the first id outside the vocabulary.
        """
        return [self._tokens[index] for index in self._checked(token_ids)]

    def save(self, folder: str | Path) -> None:
        """Write ``tokenizer.json`` into `folder`."""
        text = json.dumps({"kind": "character", "alphabet": self.alphabet})
        write_atomically(Path(folder) / "tokenizer.json", text.encode())

    @classmethod
    def load(cls, folder: str | Path) -> "CharacterTokenizer":
        """Read the tokenizer that `save` wrote into `folder`.

        Raises:
            ValueError: if ``tokenizer.json`` is not a character tokenizer's.

        Examples:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     CharacterTokenizer("xyz").save(folder)
            ...     CharacterTokenizer.load(folder)
            CharacterTokenizer('xyz')
        """
        path = Path(folder) / "tokenizer.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("kind") != "character":
            raise ValueError(f"folder: {path} is not a character tokenizer written by Isentrope")
        return cls(content["alphabet"])

    def _checked(self, token_ids: Iterable[int]) -> Sequence[int]:
        indices = list(map(int, token_ids))
        if indices and not 0 <= min(indices) <= max(indices) < len(self._tokens):
            position, index = next((p, i) for p, i in enumerate(indices) if not 0 <= i < len(self._tokens))
            raise ValueError(
                f"token_ids: id {index} at position {position} is outside the vocabulary of {len(self._tokens)}"
            )
        return indices
