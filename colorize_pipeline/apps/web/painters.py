"""Those who paint: each has a pipeline of its own around the networks of one model."""

import copy
import queue
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from PIL import Image

from colorize_pipeline.apps.painting import Painting, paint_photo
from colorize_pipeline.apps.photo import Photo
from colorize_pipeline.apps.provenance import noise_seed
from colorize_pipeline.apps.web.question import Question, Stroke, hints_of
from colorize_pipeline.apps.web.session import Original, Version
from colorize_pipeline.apps.workers import Model


class Painters:
    """
    Threads that paint.

    Args:
        model (`Model`): Its networks are shared; a run is stopped by a mark on its pipeline, which is not.
        number (`int`): Versions painted at a time.
    """

    def __init__(self, model: Model, number: int):
        self._pipes: queue.SimpleQueue = queue.SimpleQueue()
        for _ in range(number):
            pipe = copy.copy(model.pipe)  # the networks are the same; a scheduler counts its steps
            pipe.scheduler = copy.deepcopy(model.pipe.scheduler)
            self._pipes.put(pipe)
        self._threads = ThreadPoolExecutor(number)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def submit(self, work: Callable, *arguments) -> Future:
        """Let one of the threads do something that paints."""
        return self._threads.submit(work, *arguments)

    def paint(
        self,
        original: Original,
        photo: Photo,
        reference: Image.Image | None,
        question: Question,
        seed: int,
        saturation: float,
        after_step: Callable[..., dict] | None = None,
        doubt_samples: int = 0,
    ) -> Version:
        """
        Paint a photo with all that its visitor knows, as the command line does.

        Args:
            original (`Original`), photo (`Photo`): What is painted.
            reference (`PIL.Image.Image` or `None`): Whose colors are carried over.
            question (`Question`): What the visitor knows.
            seed (`int`): Of the version.
            The others: As in [`paint_photo`].
        """

        def paint(strokes: tuple[Stroke, ...]) -> Painting:
            (painting,) = paint_photo(
                pipe,
                photo,
                [noise_seed(original.sha256, None, seed)],
                saturation=saturation,
                hints=hints_of(strokes, photo.size),
                reference_image=reference,
                doubt_samples=doubt_samples,
                callback_on_step_end=after_step,
            )
            return painting

        pipe = self._pipes.get()
        try:
            painting, before = paint(question.colors), None
            if question.areas:
                same = question.colors == question.colors_before_areas
                before = painting if same else paint(question.colors_before_areas)
            return Version(seed, painting, before, question)
        finally:
            self._pipes.put(pipe)
