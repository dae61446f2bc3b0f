"""A plugin that adds one of everything; plugin_space.yaml and plugin_run.yaml name it and use what it adds."""

from dataclasses import replace

from torch.nn import BatchNorm2d, Conv2d

from se_nas.cost.metrics import METRICS, Metric
from se_nas.data.sources import DATASETS
from se_nas.records.record import Record
from se_nas.records.run_log import LOGGERS, Logger
from se_nas.search.black_box.evaluators.registry import EVALUATORS, Evaluator, Measure
from se_nas.search.black_box.samplers import SAMPLERS
from se_nas.search.result import result_by_scores
from se_nas.search.strategies import STRATEGIES, Strategy
from se_nas.space.attention import AttentionKind, register_attention
from se_nas.space.blocks import BlockKind, register_block

register_block(BlockKind(name="dot", title="dot", layer=lambda b: Conv2d(b.in_channels, b.out_channels, 1, b.stride)))
register_attention(AttentionKind(name="scaling", title="scaling", layer=lambda unit: BatchNorm2d(unit.channels)))
METRICS["wide"] = Metric(title="Width", unit="channels", block=lambda block: block.out_channels)
SAMPLERS["chance"] = replace(SAMPLERS["random"], label="a plugin's chance")


def load_train(options):
    info, images = DATASETS["synthetic"].load_train(options)
    return replace(info, name="negative"), replace(images, images=255 - images.images)


DATASETS["negative"] = replace(DATASETS["synthetic"], load_train=load_train)


class Aim(Record):
    params: float = 1500.0


EVALUATORS["aim"] = Evaluator(
    build=lambda problem, aim: lambda architecture: abs(problem.tables["params"].cost(architecture) - aim.params),
    measure=Measure(name="miss", raised=False, highest=None, share=False),
    config=Aim,
)


class Last(Strategy):
    def search(self, problem, config):
        return result_by_scores(problem, {c.name: range(len(c.options)) for c in problem.space.choices}, lambda a: 0.5)


STRATEGIES["last"] = Last()


class Lines(Logger):
    def __init__(self, folder, phase, step):
        self.path = folder / f"{phase}.csv"

    def write(self, step, numbers):
        with self.path.open("a") as file:
            print(step, *numbers.values(), sep=",", file=file)


LOGGERS["csv"] = Lines
