"""What `longigen view` shows: the trajectories in folders of generated visits, or the volumes of image files."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from longigen.data.grid import on_grid_of
from longigen.data.issues import BadData
from longigen.data.volume import Volume, open_image, read_volume
from longigen.errors import LongigenError
from longigen.generation.trajectory import find_trajectories, is_generated
from longigen.reporting.server import ViewerServer
from longigen.reporting.sources import KnownSubjects
from longigen.reporting.viewer import viewer_page
from longigen.reporting.volumes import Scene
from longigen.utils.files import atomic, user_path
from longigen.utils.progress import Progress, silent

MOST_FRAMES = 50
"""The largest number of frames of a 4D image that are shown."""

log = logging.getLogger("longigen")


@dataclass(frozen=True)
class View:
    """Scenes to look at.

    Attributes:
        title: the names of what was given.
        scenes: one per subject and setting, or one of all image files.
        notes: what is not shown or was changed and why, one sentence each.
    """

    title: str
    scenes: Sequence[Scene]
    notes: Sequence[str] = ()

    @classmethod
    def open(
        cls,
        paths: Sequence[Path | str],
        *,
        data: str | None = None,
        changes: Sequence[str] = (),
        progress: Progress = silent,
    ) -> "View":
        """Read folders of generated visits, or image files.

        Args:
            paths: folders that `generate` wrote, or image files, not both.
            data: data set with the given and true visits, for folders; see `KnownSubjects`.
            changes: parameters of the data set, as ``key=value``.
            progress: progress bar of the subjects.

        Raises:
            LongigenError: if a path is neither, an image cannot be read, or the data set cannot be opened.
        """
        chosen = [user_path(path) for path in paths]
        for path in chosen:
            if not path.exists():
                raise LongigenError(f"{path} does not exist; give a folder of generated visits, or image files.")
            if path.is_dir() and not is_generated(path):
                raise LongigenError(
                    f"{path} holds no generated visits (visits.csv is missing); give a folder that 'longigen generate' "
                    "wrote, or image files."
                )
        folders = [path for path in chosen if path.is_dir()]
        title = ", ".join(path.resolve().name for path in chosen[:5]) + (", …" if len(chosen) > 5 else "")
        if not folders:
            if data is not None or changes:
                raise LongigenError("--data is for folders of generated visits, and files were given; leave it out.")
            scene, notes = _of_files(chosen)
            return cls(title, [scene], notes)
        if len(folders) < len(chosen):
            raise LongigenError("Folders and image files cannot be shown together; give one or the other.")
        subjects, found = KnownSubjects(data, changes, ()), []
        for folder in folders:
            found += find_trajectories(folder)
        scenes: list[Scene] = []
        notes: list[str] = []
        with progress("reading") as update:
            for number, files in enumerate(found, 1):
                known, problem = subjects.of(files.folder)
                trajectory = files.read(known.get(files.subject))
                notes += [note for note in (problem, *trajectory.notes) if note and note not in notes]
                scenes.append(Scene.of_trajectory(trajectory, f"s{number}", fine=True))
                update(number, len(found))
        return cls(title, scenes, notes)

    @cached_property
    def volumes(self) -> Mapping[str, bytes]:
        """The volumes of all scenes, by key."""
        return {key: content for scene in self.scenes for key, content in scene.volumes.items()}

    def save(self, path: Path | str) -> Path:
        """Write one HTML file, complete in itself.

        Raises:
            LongigenError: if it cannot be written.
        """
        path = user_path(path)
        with atomic(path) as part:
            part.write_text(viewer_page(self.scenes, self.title), encoding="utf-8")
        return path

    def serve(self, *, browser: bool = True) -> None:
        """Serve the page on this machine until Ctrl-C; `browser` opens it."""
        page = viewer_page(self.scenes, self.title, inside=False)
        ViewerServer(page, self.volumes).run(browser=browser, say=log.info)

    def __repr__(self) -> str:
        """Return one line: the title and the number of scenes."""
        return f"View({self.title}, {len(self.scenes)} scenes)"


def _of_files(paths: Sequence[Path]) -> tuple[Scene, list[str]]:
    """Return a scene of image files, or of the frames of 4D ones, on the grid of the first, and what was changed."""
    volumes: list[tuple[str, Volume]] = []
    notes: list[str] = []
    for path in paths:
        try:
            shape = open_image(path, path.name).shape
            frames = range(shape[3]) if len(shape) > 3 and shape[3] > 1 else [None]
            if len(frames) > MOST_FRAMES:
                notes.append(f"The first {MOST_FRAMES} of the {len(frames)} frames of {path.name} are shown.")
            for frame in frames[:MOST_FRAMES]:
                label = path.name if frame is None else f"{path.name}, frame {frame}"
                volumes.append((label, read_volume(path, path.name, frame)))
        except BadData as error:
            raise LongigenError(str(error)) from error
    first = volumes[0][1]
    placed = [(label, on_grid_of(volume, first, float(volume.data.min()))) for label, volume in volumes]
    others = [
        label
        for label, volume in volumes
        if volume.data.shape != first.data.shape or abs(volume.affine - first.affine).max() > 1e-3
    ]
    if others:
        which = others[0] if len(others) == 1 else f"{others[0]} and {len(others) - 1} more"
        notes.append(
            f"{which} have another grid than {volumes[0][0]}, onto which they are interpolated to be compared."
        )
    return Scene.of_volumes(volumes[0][0] if len(volumes) == 1 else "files", placed, "f"), notes
