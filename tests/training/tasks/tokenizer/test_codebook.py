import tiny_models as tiny
import tiny_training as runs
import torch

from whale.training.loop.average import WeightAverage
from whale.training.loop.communicator import Communicator
from whale.training.loop.optimizer import make_optimizer
from whale.training.tasks.tokenizer.codebook import CODEBOOK


def test_a_replaced_code_starts_its_average_anew_and_a_used_one_keeps_its():
    task = runs.task("tokenizer")
    model, upkeep = task.model, task.upkeep
    average = WeightAverage(model, 0.9)
    average.values[CODEBOOK].fill_(7.0)
    before = model.quantizer.codebook.detach().clone()
    upkeep.before_step(5)
    model.train()(tiny.pixel_batch())
    upkeep.idle_steps += 2
    upkeep.after_step(5, Communicator(), make_optimizer(model, task.optimization), average.values)
    codebook = model.quantizer.codebook.detach()
    replaced = (codebook != before).any(dim=-1)
    assert 0 < replaced.sum() < len(replaced)
    assert torch.equal(average.values[CODEBOOK][replaced], codebook[replaced])
    assert (average.values[CODEBOOK][~replaced] == 7.0).all()


def test_what_is_seen_outside_of_training_is_not_counted():
    def logs(sees_more: bool) -> dict[str, torch.Tensor]:
        task = runs.task("tokenizer")
        task.upkeep.before_step(5)
        task.model.train()(tiny.pixel_batch())
        if sees_more:
            task.model.eval()({name: value[:1] for name, value in tiny.pixel_batch().items()})
        return task.upkeep.after_step(5, Communicator(), make_optimizer(task.model, task.optimization), {})

    assert logs(sees_more=False) == logs(sees_more=True)
