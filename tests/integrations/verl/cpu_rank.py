"""One rank of verl's own `TrainingWorker` with its FSDP2 engine, on a processor: prints what a mini-batch gave.

    torchrun --nproc-per-node 2 cpu_rank.py FOLDER DYNAMIC

FOLDER holds the model. verl has no platform for processors and asks for one; this file gives it the few calls that a
training step makes. Nothing else of verl is replaced.
"""

import contextlib
import json
import os
import sys
from functools import partial

import cloudpickle
import torch
import torch.distributed
import verl.models.transformers.monkey_patch as monkey_patch
from verl.plugin.platform import set_platform
from verl.plugin.platform.platform_cuda import PlatformCUDA
from verl.trainer.config import CheckpointConfig
from verl.utils import tensordict_utils as tu
from verl.utils.metric import reduce_metrics
from verl.utils.py_functional import rename_dict
from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig
from verl.workers.engine_workers import TrainingWorker, TrainingWorkerConfig
from verl_rows import driven, everything, nested, rollouts

from isentrope.integrations.verl.loss import objective_loss, unpack


class NoDevice:
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: 0

    def mem_get_info(self, *_):
        return 0, 0

    def get_device_name(self, *_):
        return "processor"


class Processor(PlatformCUDA):
    device_name = "cpu"
    vendor_name = "none"
    device_module = NoDevice()
    is_available = synchronize = empty_cache = set_device = manual_seed = manual_seed_all = lambda self, *_: None

    def current_device(self):
        return "cpu"

    def communication_backend_name(self):
        return "gloo"

    nvtx_range = contextlib.nullcontext


def main(folder: str, dynamic: bool) -> None:
    os.environ["VERL_ENGINE_DEVICE"] = "cuda"
    set_platform(Processor())
    # verl 0.9.1 imports a class that TRL 1.16 no longer has.
    monkey_patch.is_trl_available = lambda: False
    torch.distributed.init_process_group("gloo")
    rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
    single = dict.fromkeys(("param_dtype", "reduce_dtype", "buffer_dtype"), "fp32")
    worker = TrainingWorker(
        TrainingWorkerConfig(
            model_type="language_model",
            model_config=HFModelConfig(
                path=folder,
                load_tokenizer=False,
                use_remove_padding=False,
                enable_gradient_checkpointing=False,
                override_config={"attn_implementation": "eager"},
            ),
            engine_config=FSDPEngineConfig(
                strategy="fsdp2",
                use_torch_compile=False,
                model_dtype="fp32",
                mixed_precision=single,
                use_dynamic_bsz=dynamic,
                micro_batch_size_per_gpu=2,
                max_token_len_per_gpu=40,
            ),
            optimizer_config=FSDPOptimizerConfig(lr=0.0, clip_grad=1e9, total_training_steps=1),
            checkpoint_config=CheckpointConfig(),
        )
    )
    worker.reset()
    objective = everything()
    worker.set_loss_fn(cloudpickle.loads(cloudpickle.dumps(partial(objective_loss, objective))))

    data = driven(objective, rollouts(), ranks=ranks)
    data["position_ids"] = nested([torch.arange(len(row)) for row in data["input_ids"].unbind()])
    part = tu.chunk_tensordict(data, ranks)[rank]
    tu.assign_non_tensor(
        part,
        calculate_entropy=True,
        global_batch_size=len(data),
        mini_batch_size=len(data),
        epochs=1,
        seed=42,
        dataloader_kwargs={"shuffle": False},
        temperature=1.0,
    )
    metrics = reduce_metrics(rename_dict(tu.get(worker.train_mini_batch(part), "metrics"), "actor/"))
    if rank == 0:
        result = {"loss": metrics["actor/loss"], "norm": metrics["actor/grad_norm"], "means": unpack(metrics)}
        print("RESULT", json.dumps(result, default=float), flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] == "dynamic")
