"""The second judge: AlexNet's published convolutions, its own class in its folder, and the first judge's heads."""

from __future__ import annotations

import pytest
import torch
from torchvision.models import AlexNet as TorchvisionAlexNet

from pmg.domain import PmgError
from pmg.looks.finish_targets import SIZE
from pmg.looks.models.alexnet_judge import AlexNet, AlexNetJudge
from pmg.looks.models.judge import LookJudge, LookJudgeConfig
from pmg.looks.stages.pretraining import save_half


@pytest.fixture(scope="module")
def trunk(root):
    return AlexNet.from_folder(str(root / "assets" / "lpips")).eval()


def test_its_convolutions_are_torchvisions(trunk):
    with torch.device("meta"):
        library = TorchvisionAlexNet().features
    library.load_state_dict(trunk.features.state_dict(), assign=True)
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    stages, features = trunk(images)
    torch.testing.assert_close(stages[-1], library[:-1](((images + 1) / 2 - mean) / deviation))
    assert [tuple(stage.shape[1:2]) for stage in stages] == [(channels,) for channels in trunk.channels]
    assert features.shape == (2, trunk.width, 1, 1)


def test_a_damaged_file_is_named_with_the_way_out(tmp_path):
    (tmp_path / "alexnet.safetensors").write_bytes(b"no weights")
    with pytest.raises(PmgError, match=r"alexnet\.safetensors is missing or damaged .*lpips"):
        AlexNet.from_folder(str(tmp_path))


@pytest.fixture(scope="module")
def config():
    return LookJudgeConfig(size=64, values=SIZE, concepts=("cat", "owl"))


def test_it_begins_with_its_trunk_and_trains_what_is_not_frozen(trunk, config):
    judge = AlexNetJudge.from_trunk(config, trunk, frozen_stages=2)
    still = {name for name, weight in judge.trunk.named_parameters() if not weight.requires_grad}
    assert still == {f"features.{place}.{kind}" for place in (0, 3) for kind in ("weight", "bias")}
    assert torch.equal(judge.trunk.features[0].weight, trunk.features[0].weight)
    reading = judge.eval()(torch.zeros(3, 3, 64, 64))
    assert reading.concept.shape == (3, 2)
    assert reading.finish.shape == (3, SIZE)
    torch.testing.assert_close(reading.style.norm(dim=1), torch.ones(3))


def test_its_folder_is_read_as_what_it_is_alone(trunk, config, tmp_path):
    judge = AlexNetJudge.from_trunk(config, trunk).eval()
    save_half(judge, str(tmp_path / "judge"))
    again = AlexNetJudge.from_folder(str(tmp_path / "judge"))
    images = torch.zeros(2, 3, 64, 64)
    torch.testing.assert_close(again(images).finish, judge(images).finish, atol=1e-2, rtol=1e-2)
    with pytest.raises(PmgError, match="has not the weights of a LookJudge"):
        LookJudge.from_folder(str(tmp_path / "judge"))
