"""The report's maps of evidence: of which pictures, for which question, tested or said not to be."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from torch import nn

from sightline.errors import SightlineError, UnreadableImage
from sightline.report import evidence
from sightline.report.write import render
from tests.report.samples import draw, sample


def test_the_dearest_mistakes_and_sure_right_answers_of_several_classes() -> None:
    data = sample()
    found = evidence.evidence(data).cases
    assert [one.right for one in found] == [False] * 3 + [True] * 3
    truth = {ref: data.classes[target] for ref, target in zip(data.refs, data.targets, strict=True)}
    loss = -np.log(data.probabilities[np.arange(60), data.targets])
    wrong = data.probabilities.argmax(1) != data.targets
    dearest = [data.refs[i] for i in np.argsort(-loss, kind="stable") if wrong[i]]
    assert [one.ref for one in found[:3]] == dearest[:3]
    assert {truth[one.ref] for one in found[3:]} == set(data.classes)
    for one in found:
        # Rather than for the truth; of a right answer, rather than for the second best.
        number = data.refs.index(one.ref)
        second = data.classes[int(np.argsort(-data.probabilities[number], kind="stable")[1])]
        assert one.said != one.other == (second if one.right else truth[one.ref])
        assert (one.said == truth[one.ref]) == one.right


def test_each_map_is_tested_or_said_not_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    found = evidence.evidence(sample())
    assert found.untested == 0 and all(len(one.trust) == 2 for one in found.cases if one.trust)
    assert "left untested" not in render(sample())
    monkeypatch.setattr(evidence, "PATIENCE", 0.0)
    assert evidence.evidence(sample()).untested == 6
    assert "6 maps left untested" in render(sample())


def test_pictures_that_cannot_be_read_are_passed_over() -> None:
    lost = set(range(0, 60, 2))

    def picture(i: int) -> Image.Image:
        if i in lost:
            raise UnreadableImage(str(i), "it is gone")
        return draw(i)

    data = sample(picture=picture)
    assert {data.refs.index(one.ref) % 2 for one in evidence.evidence(data).cases} == {1}


def test_networks_without_places_are_refused() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(24 * 24 * 3, 3))
    with pytest.raises(SightlineError, match="no layer with places"):
        evidence.evidence(sample(model=flat))
    page = render(sample(model=flat))
    assert "No evidence: Sequential has no layer with places" in page
