"""Makes Isentrope known to verl: the trainer mode ``isentrope`` and the policy losses ``isentrope_<recipe>``.

verl imports this module in each of its processes, by the entry-point group ``verl.plugins`` or by
``VERL_USE_EXTERNAL_MODULES=isentrope.integrations.verl.plugin``, while verl itself is still being imported. So nothing of
verl is imported here: each registration waits until verl imports the module that it belongs to, and costs those who
train something else nothing.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_LOGGER = logging.getLogger(__name__)


def _register_policy_losses() -> None:
    from isentrope.integrations.verl.policy_losses import register

    register()


def _register_trainer() -> None:
    from verl.trainer.ppo.v1.trainer_base import register_trainer

    from isentrope.integrations.verl.trainer import ObjectiveTrainer

    register_trainer("isentrope")(ObjectiveTrainer)


REGISTRATIONS: dict[str, Callable[[], None]] = {
    "verl.trainer.ppo.core_algos": _register_policy_losses,
    "verl.trainer.ppo.v1.trainer_sync": _register_trainer,
}
"""What is registered after the import of which module of verl."""


def install() -> None:
    """Arrange the registrations; once is enough, more does no harm."""
    if not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())
    for name in REGISTRATIONS:
        module = sys.modules.get(name)
        # A module that is still being imported registers when it is done.
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            _registered(name)


class _AfterImport(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname in REGISTRATIONS else None
        if spec is not None and spec.loader is not None:
            setattr(spec.loader, "exec_module", _followed_by_registration(spec.loader, fullname))  # noqa: B010
        return spec


def _followed_by_registration(loader: Loader, name: str) -> Callable[[ModuleType], None]:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        _registered(name)

    return exec_module


def _registered(name: str) -> None:
    try:
        REGISTRATIONS[name]()
    except (ImportError, AttributeError) as error:
        # Another verl must still work for those who train without us.
        _LOGGER.warning("isentrope is not available in this verl: %s", error)


install()
