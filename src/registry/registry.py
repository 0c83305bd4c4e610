"""Registry: artifacts in a store, saved so that no half-written one exists, and verified before they are used."""

import hashlib
import hmac
import io
import itertools
import json
import logging
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

from tabserve.errors import (
    BrokenArtifactError,
    NoEarlierChampionError,
    NoHoldOutError,
    NoModelError,
    TabserveError,
    UnknownModelError,
)
from tabserve.registry.artifact import Artifact
from tabserve.registry.manifest import Manifest
from tabserve.registry.model_id import ModelId
from tabserve.registry.stores import (
    ABANDONED_AFTER,
    CHAMPION_SUFFIX,
    DEFAULT_CACHE,
    DEFAULT_FOLDER,
    DELETED,
    MANIFEST,
    SAFE_SEGMENT,
    Location,
    open_store,
)

logger = logging.getLogger(__name__)

PROTOCOL = 2  # raised whenever an older program could not read what a newer one writes
PIPELINE, MODEL, TRAIN_TABLE, TEST_TABLE = "pipeline.pkl", "model.pkl", "train.csv", "test.csv"
REPORT = "report.html"
NOT_EVERYWHERE = (TRAIN_TABLE, TEST_TABLE)  # rows of people: an artifact is whole without them
PINNED_LIBRARIES = ("lightgbm", "scikit-learn")  # a pickle of one version may mean something else to another
DEEPEST = 32  # levels of a manifest; training writes no more than six
LONGEST_QUOTE = 40  # characters of a manifest that an error repeats
MOST_PROMOTIONS = 4  # a champion and those before it that its file remembers: that is still a small file
REJECTED = "rejected"  # folder of the reports of candidates that failed their gates

Promotions: TypeAlias = list[tuple[str, str]]  # model_ids with their signatures


class Registry:
    """Artifacts in a local folder or in a bucket of S3.

    An artifact exists exactly when its manifest does: files are written first and the manifest last, all at once; it
    is deleted first. Artifacts are read from the store's listing, never from a name that a client sent.

    Parameters
    ----------
    location : Path or str
        Where the artifacts are: a folder, made when the first is saved, or `s3://bucket/prefix`.
    signing_key : str, optional
        When given, manifests and champions are signed with it, and one without its signature is refused.
    cache : Path
        Folder for what was read from a bucket.
    """

    def __init__(self, location: Location, signing_key: str | None = None, cache: Path = DEFAULT_CACHE) -> None:
        self.location = location
        self._store = open_store(location, cache)
        self._signing_key, self._cache = signing_key, cache

    def on_this_machine(self) -> "Registry":
        """Return this registry when it is a folder, else one in the default folder, beside it."""
        return self if isinstance(self.location, Path) else self.beside(DEFAULT_FOLDER)

    def beside(self, location: Location) -> "Registry":
        """Return the registry at another location, with the same key and cache."""
        return Registry(location, self._signing_key, self._cache)

    @property
    def away(self) -> str | None:
        """Why the store cannot be reached now; what is known of it is then served."""
        return self._store.away

    # names

    def list(self, use_case: str | None = None, algorithm: str | None = None) -> "list[str]":
        """List artifacts.

        Parameters
        ----------
        use_case, algorithm : str, optional
            Only those of this use case and of this algorithm.

        Returns
        -------
        list of str
            model_ids, newest first.
        """
        ids = [
            model_id
            for path in self._store.paths()
            if path.endswith(f"/{MANIFEST}")
            and (model_id := ModelId.parse(path.removesuffix(f"/{MANIFEST}")))
            and use_case in (None, model_id.use_case)
            and algorithm in (None, model_id.algorithm)
        ]
        return [str(model_id) for model_id in sorted(ids, key=lambda one: one.age_key, reverse=True)]

    def latest(self, use_case: str, algorithm: str | None = None) -> str:
        """The newest model_id of a use case, or of one of its algorithms.

        Raises
        ------
        NoModelError
            When there is none.
        """
        ids = self.list(use_case, algorithm)
        if not ids:
            raise NoModelError(use_case, algorithm)
        return ids[0]

    def champion(self, use_case: str) -> str | None:
        """The model_id that was made the use case's champion, if any was.

        Raises
        ------
        BrokenArtifactError
            When that cannot be read, names a model of another use case or is not signed where a key is set: no other
            model may stand in for a champion.
        """
        try:
            promotions = self._promotions(use_case)
        except (OSError, ValueError):
            promotions = [("", "")]
        if not promotions:
            return None
        model_id, signature = promotions[0]
        reason = self._why_no_champion(use_case, model_id, signature)
        if reason:
            raise BrokenArtifactError(f"The champion of {use_case}", f"{reason}; promote a model again")
        return model_id

    def _promotions(self, use_case: str) -> Promotions:
        """What stands in a champion's file: it and those before it, the last promoted first, with their signatures."""
        try:
            lines = self._store.read(_champion_file(use_case)).decode().split("\n")
        except FileNotFoundError:
            return []
        return list(itertools.zip_longest(lines[::2], lines[1::2], fillvalue=""))

    def _why_no_champion(self, use_case: str, model_id: str, signature: str) -> str | None:
        """Why a line of a champion's file names no model that may answer."""
        parts = ModelId.parse(model_id)
        if parts is None:
            return "its name cannot be read"
        if parts.use_case != use_case:
            return "it is a model of another use case"
        if self._signing_key and not self._is_signature(signature, _champion_message(model_id)):
            return "it is not signed with this service's key"
        return None

    def promote(self, model_id: str) -> None:
        """Make an artifact the champion of its use case; those before it are remembered.

        Raises
        ------
        UnknownModelError
            When there is no such artifact.
        """
        self._store.refresh()
        self.check_exists(model_id)
        use_case = _parts(model_id).use_case
        signature = self._signature(_champion_message(model_id)) if self._signing_key else ""
        before = [promotion for promotion in self._good_promotions(use_case) if promotion[0] != model_id]
        self._write_promotions(use_case, [(model_id, signature), *before])

    def rollback(self, use_case: str) -> str:
        """Make the champion that a use case had before its champion again; models deleted since are passed over.

        Returns
        -------
        str
            The champion's model_id.

        Raises
        ------
        NoEarlierChampionError
            When none is remembered that is still there.
        BrokenArtifactError
            When it is refused; the champion stays.
        """
        self._store.refresh()
        before = [
            promotion
            for promotion in self._good_promotions(use_case, first=1)
            if self._store.exists(f"{promotion[0]}/{MANIFEST}")
        ]
        if not before:
            raise NoEarlierChampionError(use_case)
        champion = before[0][0]
        self.load(champion)
        self._write_promotions(use_case, before)
        return champion

    def _good_promotions(self, use_case: str, first: int = 0) -> Promotions:
        """The lines of a champion's file that may answer, from a place in it on."""
        with suppress(OSError, ValueError):
            promotions = self._promotions(use_case)[first:]
            return [promotion for promotion in promotions if not self._why_no_champion(use_case, *promotion)]
        return []

    def _write_promotions(self, use_case: str, promotions: Promotions) -> None:
        lines = itertools.chain.from_iterable(promotions[:MOST_PROMOTIONS])
        self._store.replace(_champion_file(use_case), "\n".join(lines).rstrip("\n").encode())

    def check_exists(self, model_id: str) -> None:
        """Refuse a name that no artifact has; for one that is no model_id without touching the disk.

        Parameters
        ----------
        model_id : str
            Anything, perhaps from a URL.

        Raises
        ------
        UnknownModelError
            When there is no such artifact.
        """
        if ModelId.parse(model_id) is None or not self._store.exists(f"{model_id}/{MANIFEST}"):
            raise UnknownModelError

    # writing

    def save(self, files: Mapping[str, bytes], manifest: Manifest) -> str:
        """Write an artifact.

        Parameters
        ----------
        files : mapping
            Content of each file by name.
        manifest : Manifest
            The digests of the files are added here.

        Returns
        -------
        str
            The model_id.

        Raises
        ------
        UnknownModelError
            When the model_id is none: it would never be listed.
        FileExistsError
            When there is such an artifact already.
        ValueError
            When the manifest cannot be JSON, as with NaN.
        """
        model_id = manifest.model_id
        _parts(model_id)  # a name that would never be listed is refused before anything is written
        self._sweep()
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        written = self._sealed(replace(manifest, files=digests))
        for name, content in files.items():
            if name != TRAIN_TABLE or isinstance(self.location, Path):  # which stays where it was trained
                # each new: of two writers of one model_id, one goes no further
                self._store.create(f"{model_id}/{name}", content)
        self._store.replace(f"{model_id}/{MANIFEST}", written)
        logger.info("saved %s", model_id)
        return model_id

    def copy(self, model_id: str, to: "Registry", *, hold_out: bool = True) -> bool:
        """Copy an artifact to another registry, all but `train.csv`, which stays where it was trained.

        One that is there already is verified, and written again when it is refused or lacks a file.

        Parameters
        ----------
        model_id : str
            The artifact.
        to : Registry
            Where to.
        hold_out : bool
            Whether `test.csv` goes along, when it is there; otherwise one that was copied before is deleted.

        Returns
        -------
        bool
            False when it was there already, whole.

        Raises
        ------
        UnknownModelError
            When there is no such artifact.
        BrokenArtifactError
            When it is not as its manifest says: nothing is copied.
        """
        manifest, written = self._manifest(model_id)
        left_out = {TRAIN_TABLE} if hold_out else {TRAIN_TABLE, TEST_TABLE}
        files = self._files(model_id, manifest, left_out)
        to._sweep()
        if not hold_out and to.has_hold_out(model_id):
            to._store.delete(f"{model_id}/{TEST_TABLE}")
        if to._is_whole(model_id, files):
            return False
        for name, content in {**files, MANIFEST: written}.items():  # perhaps once more: the same, after a killed copy
            to._store.replace(f"{model_id}/{name}", content)
        return True

    def _is_whole(self, model_id: str, names: Collection[str]) -> bool:
        """Whether there is such an artifact, with files of these names, and all as its manifest says."""
        try:
            self._files(model_id, self.manifest(model_id))
        except (BrokenArtifactError, UnknownModelError):
            return False
        return all(self._store.exists(f"{model_id}/{name}") for name in names)

    def copy_champion(self, use_case: str, to: "Registry") -> None:
        """Make the use case's champion that of another registry, which has its artifact: its signature goes along.

        Raises
        ------
        UnknownModelError
            When there is no champion, or the other registry has no such artifact.
        BrokenArtifactError
            When the champion is refused.
        """
        to.check_exists(self.champion(use_case) or "")
        to._store.replace(_champion_file(use_case), self._store.read(_champion_file(use_case)))

    def reject(self, model_id: str, report: bytes) -> None:
        """Keep the report of a candidate that failed its gates, and nothing else of it.

        Raises
        ------
        UnknownModelError
            When the model_id is none.
        """
        self._store.replace(f"{REJECTED}/{_parts(model_id)}.html", report)

    def delete(self, model_id: str) -> None:
        """Delete an artifact, its manifest first; its title of champion goes with it.

        Raises
        ------
        UnknownModelError
            When there is no such artifact.
        """
        self._store.refresh()
        self.check_exists(model_id)
        try:
            self._store.replace(DELETED, model_id.encode())  # a store without models is then not taken for a lost one
        except OSError:
            if self.list() == [model_id]:
                raise
        with self._without_title(model_id):
            self._store.delete(f"{model_id}/{MANIFEST}")
        for path in [path for path in self._store.paths() if path.startswith(f"{model_id}/")]:
            self._store.delete(path)

    @contextmanager
    def _without_title(self, model_id: str) -> Iterator[None]:
        """Take the title of champion from an artifact that is then deleted; it gets it back when that fails."""
        use_case = _parts(model_id).use_case
        title = None
        with suppress(BrokenArtifactError):
            if self.champion(use_case) == model_id:
                title = self._store.read(_champion_file(use_case))
                self._store.delete(_champion_file(use_case))
        try:
            yield
        except BaseException:
            if title is not None:
                self._store.replace(_champion_file(use_case), title)
            raise

    def _sweep(self) -> None:
        """Remove what killed runs left: artifacts that got no manifest for a long time."""
        self._store.refresh()
        paths = self._store.paths()

        def has_no_manifest(path: str) -> bool:
            folder = path.rpartition("/")[0]
            return ModelId.parse(folder) is not None and f"{folder}/{MANIFEST}" not in paths

        self._store.sweep(ABANDONED_AFTER, has_no_manifest)

    # reading

    def manifest(self, model_id: str) -> Manifest:
        """An artifact's manifest, verified; its files are not looked at.

        Raises
        ------
        UnknownModelError
            When there is no such artifact.
        BrokenArtifactError
            When the manifest is not the one that training wrote.
        """
        return self._manifest(model_id)[0]

    def load(self, model_id: str) -> Artifact:
        """Verify what answers of an artifact (manifest, pipeline and model), then unpickle exactly what was verified.

        Raises
        ------
        UnknownModelError
            When there is no such artifact.
        BrokenArtifactError
            When one of the three is not as its manifest says.
        """
        import joblib

        manifest, _ = self._manifest(model_id)
        _check_versions(model_id, manifest)
        pickled = [self.read(model_id, name, manifest) for name in (PIPELINE, MODEL)]
        try:
            (pipeline, target), (model, task, decision) = (joblib.load(io.BytesIO(content)) for content in pickled)
        except Exception as error:  # unpickling may raise whatever the pickled classes raise
            reason = f"its pickles cannot be loaded ({type(error).__name__})"
            raise BrokenArtifactError(model_id, reason) from error
        return Artifact(manifest, pipeline, target, model, task, decision)

    def verify(self, model_id: str) -> None:
        """Check that an artifact can be loaded, and that all of its files are those that training wrote.

        Raises
        ------
        UnknownModelError
            When there is no such artifact.
        BrokenArtifactError
            When anything about it is not as its manifest says.
        """
        self._files(model_id, self.load(model_id).manifest)

    def version(self, model_id: str) -> object:
        """What differs when one of the files that `load` reads was written again, found without reading them."""
        return [self._store.version(f"{model_id}/{name}") for name in (MANIFEST, PIPELINE, MODEL)]

    def hold_out(self, model_id: str, manifest: Manifest) -> bytes:
        """Read the rows that an artifact's training held out, `test.csv`.

        Raises
        ------
        NoHoldOutError
            When they were not copied here with the artifact.
        BrokenArtifactError
            When they are not those that training wrote.
        """
        if not self.has_hold_out(model_id):
            raise NoHoldOutError
        return self.read(model_id, TEST_TABLE, manifest)

    def has_hold_out(self, model_id: str) -> bool:
        """Whether the rows that an artifact's training held out are here."""
        return ModelId.parse(model_id) is not None and self._store.exists(f"{model_id}/{TEST_TABLE}")

    def _files(self, model_id: str, manifest: Manifest, left_out: Collection[str] = ()) -> dict[str, bytes]:
        """All files of an artifact but its manifest, verified."""
        return {
            name: self.read(model_id, name, manifest)
            for name in manifest.files
            if name not in left_out and (name not in NOT_EVERYWHERE or self._store.exists(f"{model_id}/{name}"))
        }

    def read(self, model_id: str, name: str, manifest: Manifest) -> bytes:
        """Read one of an artifact's files.

        Parameters
        ----------
        model_id : str
            The artifact.
        name : str
            The file.
        manifest : Manifest
            The artifact's, with the digest that the file must have.

        Returns
        -------
        bytes
            The file's content, verified.

        Raises
        ------
        BrokenArtifactError
            When the file is missing or is not the one that training wrote.
        """
        digest = manifest.files.get(name)
        try:
            content = self._store.read(f"{model_id}/{name}", digest)
        except (FileNotFoundError, ValueError):  # ValueError for a name that no file can have
            raise BrokenArtifactError(model_id, f"its file {name} is missing") from None
        except (OSError, MemoryError):
            raise BrokenArtifactError(model_id, f"its file {name} cannot be read") from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise BrokenArtifactError(model_id, f"its file {name} is not the one that training wrote")
        return content

    def _manifest(self, model_id: str) -> tuple[Manifest, bytes]:
        """An artifact's manifest and its bytes, verified."""
        self.check_exists(model_id)
        try:
            return self._read_manifest(model_id)
        except TabserveError:
            raise
        except Exception:  # whatever else goes wrong with one manifest is no fault of the service
            raise BrokenArtifactError(model_id, "its manifest cannot be read") from None

    def _read_manifest(self, model_id: str) -> tuple[Manifest, bytes]:
        written = self._store.read(f"{model_id}/{MANIFEST}")
        content = json.loads(written)
        protocol, name = content["protocol"], content["model_id"]
        if protocol != PROTOCOL:
            raise BrokenArtifactError(
                model_id,
                f"its protocol is {_quoted(protocol)} and this program's {PROTOCOL}: train it again with this program",
            )
        if name != model_id:
            raise BrokenArtifactError(model_id, "its manifest belongs to another model")
        if self._signing_key and not self._is_signature(content.get("hmac", ""), _canonical(content)):
            raise BrokenArtifactError(model_id, "its manifest is not signed with this service's key")
        try:
            manifest = Manifest.from_json(content)
        except ValueError:
            raise BrokenArtifactError(model_id, "its manifest is incomplete") from None
        if not all(map(SAFE_SEGMENT.fullmatch, manifest.files)):  # another could be a path out of its folder
            raise BrokenArtifactError(model_id, "its manifest names files that are none")
        if manifest.use_case != _parts(model_id).use_case:
            raise BrokenArtifactError(model_id, "its manifest belongs to another use case")
        if not _can_be_answered(content):
            raise BrokenArtifactError(model_id, "its manifest cannot be read")
        if not _is_as_written(manifest, content, written):
            raise BrokenArtifactError(model_id, "its manifest is not the one that training wrote")
        return manifest, written

    def _sealed(self, manifest: Manifest) -> bytes:
        """The manifest as it is written: with protocol, digest and, where there is a key, signature."""
        content = {"protocol": PROTOCOL, **manifest.to_json()}
        content["digest"] = _digest(content)
        if self._signing_key:
            content["hmac"] = self._signature(_canonical(content))
        return _serialized(content)

    def _signature(self, message: bytes) -> str:
        assert self._signing_key
        return hmac.new(self._signing_key.encode(), message, "sha256").hexdigest()

    def _is_signature(self, text: object, message: bytes) -> bool:
        return hmac.compare_digest(str(text).encode(errors="replace"), self._signature(message).encode())


def _check_versions(model_id: str, manifest: Manifest) -> None:
    written = manifest.libraries
    for name in PINNED_LIBRARIES:
        installed = version(name)
        if written.get(name) != installed:
            raise BrokenArtifactError(
                model_id,
                f"it was written with {name} {_quoted(str(written.get(name)))[1:-1]} and this service has {installed}",
            )


def _quoted(value: object) -> str:
    """Part of a manifest as an error may repeat it: short, and of characters that any answer and log can hold."""
    text = ascii(value)
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}...{text[-1]}"


def _can_be_answered(value: object, levels: int = DEEPEST) -> bool:
    """Whether part of a manifest can be written wherever it goes: texts without half characters, few levels."""
    if isinstance(value, dict | list):
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        return levels > 0 and all(_can_be_answered(part, levels - 1) for part in parts)
    return not isinstance(value, str) or not re.search("[\ud800-\udfff]", value)


def _serialized(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=2, allow_nan=False).encode()


def _is_as_written(manifest: Manifest, content: Mapping[str, Any], written: bytes) -> bool:
    """Whether a manifest is, to the byte, one that `save` wrote; its signature was looked at before."""
    seal = {name: content[name] for name in ("digest", "hmac") if name in content}
    with suppress(ValueError):  # for a NaN, which is never written
        complete = {"protocol": PROTOCOL, **manifest.to_json(), **seal}
        return content.get("digest") == _digest(content) and written == _serialized(complete)
    return False


def _canonical(content: Mapping[str, Any]) -> bytes:
    """What digest and signature are taken of: all but the two of them."""
    return json.dumps({key: content[key] for key in sorted(content) if key not in ("digest", "hmac")}).encode()


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(content)).hexdigest()


def _parts(model_id: str) -> ModelId:
    parts = ModelId.parse(model_id)
    if parts is None:
        raise UnknownModelError
    return parts


def _champion_file(use_case: str) -> str:
    return f"{use_case}{CHAMPION_SUFFIX}"


def _champion_message(model_id: str) -> bytes:
    """What a champion's signature is taken of; no manifest begins like this."""
    return f"champion {model_id}".encode()
