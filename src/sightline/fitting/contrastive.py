"""A fit that learns from captions: what is kept, how it is measured on the test split, and what is reported."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightline.data.captions import CaptionDataset, open_captions, write_captions
from sightline.errors import SightlineError
from sightline.files import write_beside
from sightline.fitting.course import Course
from sightline.fitting.folder import Fit, rows_of, say_set_aside
from sightline.models.clip import CLIP
from sightline.models.clip_folder import KeptClip, encode_texts
from sightline.pipeline.cache import Failure
from sightline.pipeline.loader import PlainPictures
from sightline.report.retrieval import RetrievalReport, retrieval_page
from sightline.run import FACTS, SCORES, Run, environment
from sightline.training.build import model_arguments_of
from sightline.training.contrastive import scores_of
from sightline.training.contrastive_job import ContrastiveJob, prepare_captions
from sightline.training.prepare import Job
from sightline.training.processes import Processes
from sightline.training.progress import Quiet
from sightline.training.recipe import Recipe
from sightline.training.state import TrainState
from sightline.transforms.preprocess import Preprocess


def kept(job: Job, weights: dict[str, Any]) -> KeptClip:
    """What is kept and served of `job` with `weights`."""
    assert isinstance(job, ContrastiveJob)
    assert job.recipe.model.name is not None
    return KeptClip(
        architecture=job.recipe.model.name,
        arguments=model_arguments_of(job.recipe),
        preprocess=job.trainer.preprocess,
        tokenizer=job.tokenizer,
        weights=weights,
    )


def keep(run: Run, job: Job, state: TrainState) -> None:
    """Write the best model so far into the run."""
    assert state.best is not None
    kept(job, state.best.weights).save(run.path)


def write_splits(run: Run, job: Job) -> None:
    """Which picture was in which split, with its captions."""
    assert isinstance(job, ContrastiveJob)
    write_captions(job.captions, run.splits)


def fingerprint(job: Job) -> str:
    """A hash of the names and captions of the training pictures, in their order."""
    assert isinstance(job, ContrastiveJob)
    train = job.captions.split("train")
    digest = hashlib.sha256()
    for index, ref in enumerate(train.refs()):
        digest.update(os.fsencode(ref) + b"\n")
        digest.update("\n".join(train.captions(index)).encode() + b"\n\n")
    digest.update(len(job.trainer.targets).to_bytes(8, "little"))  # some may no longer be readable
    return digest.hexdigest()[:16]


@torch.inference_mode()
def embed(
    model: CLIP, preprocess: Preprocess, test: CaptionDataset, processes: Processes, watch: Quiet
) -> tuple[np.ndarray, np.ndarray, list[Failure]]:
    """(places, embeddings in float32, what could not be read) of the pictures of `test`, spread over the processes."""
    found, rows, failures = [np.empty(0, np.int64)], [np.empty((0, model.text_projection.shape[1]))], []
    done = 0
    pictures = PlainPictures(test.pictures, preprocess)
    for batch in pictures.batches(128, part=(processes.rank, processes.count)):
        failures += batch.failures
        if len(batch.indices):
            found.append(batch.indices)
            rows.append(model.encode_image(preprocess.normalize(batch.images), normalize=True).numpy())
        done += len(batch.indices) + len(batch.failures)
        watch.reading(done * processes.count, len(test), "test pictures")
    gathered = processes.gather((np.concatenate(found), np.concatenate(rows), failures))
    indices = np.concatenate([part[0] for part in gathered])
    order = np.argsort(indices)
    return (
        indices[order],
        np.concatenate([part[1] for part in gathered])[order].astype(np.float32),
        [failure for part in gathered for failure in part[2]],
    )


def conclude(fit: Fit, job: Job, state: TrainState, before: float) -> None:
    """Score the best model on the test split; write scores, facts and report. `before`: seconds before a resume."""
    assert isinstance(job, ContrastiveJob)
    assert state.best is not None
    run, processes, watch = fit.run, fit.processes, fit.watch
    if processes.main and not run.has_model:  # its files were lost, but a checkpoint has the weights
        keep(run, job, state)
    bundle = kept(job, state.best.weights)
    model = bundle.model()
    test = job.captions.split("test")
    found, images, failures = embed(model, bundle.preprocess, test, processes, watch)
    if not processes.main:
        return
    late = rows_of([*state.failures.values(), *failures])
    say_set_aside(late, watch)
    set_aside = rows_of(job.set_aside) + late
    if not len(found):
        raise SightlineError(f"None of the {len(test):,} test pictures of {test.name} could be read.")
    captions, owners = test.all_captions()
    texts = encode_texts(model, job.tokenizer, captions).numpy()
    scores = scores_of(found, images, texts, captions, owners, "test")
    run.write_json(SCORES, scores.to_dict())
    seconds = round(before + time.perf_counter() - fit.begun, 1)
    machine = environment() | {"processes": processes.count}
    page = retrieval_page(
        RetrievalReport(
            title=run.path.name,
            created=run.read_json(FACTS)["created"],
            source=fit.source or test.name,
            counts={name: len(job.captions.split(name)) for name in ("train", "val", "test")},
            set_aside=set_aside,
            recipe=job.recipe.to_dict(),
            reasons=job.reasons,
            history=[row | {"best": row["epoch"] == state.best.epoch} for row in state.history],
            scores=scores,
            images=images,
            texts=texts,
            captions=captions,
            owners=owners,
            found=found,
            picture=test.read,
            words=len(job.tokenizer.words),
            parameters=sum(p.numel() for p in model.parameters()),
            environment=machine | {"device": job.recipe.device, "seconds": seconds},
        )
    )
    write_beside(run.report, page)
    run.add_facts(
        status="complete",
        seconds=seconds,
        best_epoch=state.best.epoch,
        reasons=job.reasons,
        set_aside=set_aside,
        environment=machine,
    )
    fit.checkpoints.discard()


def prepared(
    captions: CaptionDataset, recipe: Recipe, fit: Fit, splits: Path | None
) -> tuple[Job, list[str]]:
    """`prepare_captions` for a fit."""
    return prepare_captions(captions, recipe, fit.watch, fit.processes, splits), []


CAPTIONS = Course(
    CaptionDataset,
    open_captions,
    prepared,
    write_splits,
    fingerprint,
    keep,
    conclude,
    'use it with `sightline zero-shot PICTURES --labels "..." --model {run}`',
)
