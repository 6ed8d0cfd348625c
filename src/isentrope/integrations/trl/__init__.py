"""TRL's trainers with entropy measured, explained and controlled: `EntropyGRPOTrainer` and `EntropyMonitor`."""

from isentrope.integrations.trl.monitor import DiagnosisCallback, EntropyMonitor
from isentrope.integrations.trl.trainer import EntropyGRPOTrainer

__all__ = ["DiagnosisCallback", "EntropyGRPOTrainer", "EntropyMonitor"]
