"""Registry: artifacts in a store, never half-written, and verified before they are used."""

import hashlib
import io
import json
import logging
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tabserve.errors import (
    BrokenArtifactError,
    NoHoldOutError,
    NoModelError,
    TabserveError,
    UnknownModelError,
)
from tabserve.registry.artifact import Artifact
from tabserve.registry.histories import Histories
from tabserve.registry.manifest import Manifest
from tabserve.registry.model_id import USE_CASE, ModelId
from tabserve.registry.signing import Keys
from tabserve.registry.stores import (
    ABANDONED_AFTER,
    CHAMPION_SUFFIX,
    DEFAULT_CACHE,
    DEFAULT_FOLDER,
    DELETED,
    HISTORY_SUFFIX,
    MANIFEST,
    SAFE_SEGMENT,
    Location,
    open_store,
)

logger = logging.getLogger(__name__)

PROTOCOL = 5  # rises when older programs could not read new artifacts
PIPELINE, MODEL, TRAIN_TABLE, TEST_TABLE = "pipeline.pkl", "model.pkl", "train.parquet", "test.parquet"
NOT_EVERYWHERE = (TRAIN_TABLE, TEST_TABLE)  # rows of people: an artifact is complete without them
PINNED_LIBRARIES = ("lightgbm", "scikit-learn")  # other versions may read a pickle differently
DEEPEST = 32  # levels of nesting in a manifest; training writes at most six
LONGEST_QUOTE = 40  # characters of a manifest that an error quotes
REJECTED = "rejected"  # folder for the reports of candidates that failed their gates


class Registry:
    """Artifacts in a local folder or an S3 bucket.

    An artifact exists exactly when its manifest does: the manifest is written last, atomically, and deleted first.
    Artifacts are read by the names in the store's listing, never by a name that a client sent.

    Parameters
    ----------
    location : Path or str
        Where the artifacts are: `s3://bucket/prefix`, or a folder, which is created when the first artifact is saved.
    signing_key : str, optional
        When given, manifests and histories are signed with it, and those without its signature are refused. Of several,
        separated by commas, the first one signs, and the signatures of all are accepted.
    cache : Path
        Folder for copies of what was read from a bucket.
    served : tuple of str
        The only use cases whose artifacts are seen; none means all.
    approvals : int
        How many people must stand behind a champion: 1 or 2.
    """

    def __init__(
        self,
        location: Location,
        signing_key: str | None = None,
        cache: Path = DEFAULT_CACHE,
        served: tuple[str, ...] = (),
        approvals: int = 1,
    ) -> None:
        self.location, self.served, self.approvals = location, served, approvals
        self._store = open_store(location, cache)
        self._signing_key, self._cache = signing_key, cache
        self._keys = Keys(signing_key)
        self.histories = Histories(self._store, self, self._keys, approvals)

    def on_this_machine(self) -> "Registry":
        """Return this registry when it is a folder, otherwise one in the default folder."""
        return self if isinstance(self.location, Path) else self.beside(DEFAULT_FOLDER)

    def beside(self, location: Location) -> "Registry":
        """Return the registry at another location, with the same key and cache."""
        return Registry(location, self._signing_key, self._cache, approvals=self.approvals)

    @property
    def away(self) -> str | None:
        """Why the store cannot be reached now, so that older copies answer; None when it can."""
        return self._store.away

    # names

    def use_cases(self) -> list[str]:
        """The use cases that have a model or a champion here, in alphabetical order."""
        ends = HISTORY_SUFFIX, CHAMPION_SUFFIX
        champions = {path.rpartition(".")[0] for path in self._store.paths() if path.endswith(ends)}
        trained = {model_id.partition("-")[0] for model_id in self.list()}
        return sorted(filter(self._is_served, trained.union(filter(USE_CASE.fullmatch, champions))))

    def _is_served(self, use_case: str) -> bool:
        return not self.served or use_case in self.served

    def list(self, use_case: str | None = None, algorithm: str | None = None) -> "list[str]":
        """List artifacts.

        Parameters
        ----------
        use_case, algorithm : str, optional
            List only those of this use case and algorithm.

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
            and self._is_served(model_id.use_case)
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

    def check_exists(self, model_id: str) -> None:
        """Refuse a name that no artifact has. Malformed ids are refused without touching the disk.

        Parameters
        ----------
        model_id : str
            Any text, perhaps from a URL.

        Raises
        ------
        UnknownModelError
            When there is no such artifact.
        """
        parts = ModelId.parse(model_id)
        if not (parts and self._is_served(parts.use_case) and self._store.exists(f"{model_id}/{MANIFEST}")):
            raise UnknownModelError

    # writing

    def save(self, files: Mapping[str, bytes], manifest: Manifest) -> str:
        """Write an artifact.

        Parameters
        ----------
        files : mapping
            Content of each file by name.
        manifest : Manifest
            Without the digests of the files, which are added here.

        Returns
        -------
        str
            The model_id.

        Raises
        ------
        UnknownModelError
            When the model_id is malformed: it would never be listed.
        FileExistsError
            When the artifact exists already.
        ValueError
            When the manifest cannot be written as JSON, for example because of a NaN.
        """
        model_id = manifest.model_id
        _parts(model_id)  # refuse a malformed name before anything is written
        self._sweep()
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        written = self._sealed(replace(manifest, files=digests))
        for name, content in files.items():
            if name != TRAIN_TABLE or isinstance(self.location, Path):  # never leaves the machine that trained
                # never overwrites: of two writers of one model_id, one fails here
                self._store.create(f"{model_id}/{name}", content)
        self._store.replace(f"{model_id}/{MANIFEST}", written)
        logger.info("saved %s", model_id)
        return model_id

    def copy(self, model_id: str, to: "Registry", *, hold_out: bool = True) -> bool:
        """Copy an artifact to another registry, without `train.parquet`, which never leaves the machine that trained.

        An existing copy is verified, and written again when it is refused or lacks a file.

        Parameters
        ----------
        model_id : str
            The artifact.
        to : Registry
            The destination.
        hold_out : bool
            Whether to copy `test.parquet`, if it is here; otherwise an earlier copy of it is deleted.

        Returns
        -------
        bool
            False when a complete copy existed already.

        Raises
        ------
        UnknownModelError
            When there is no such artifact.
        BrokenArtifactError
            When the artifact does not match its manifest; then nothing is copied.
        """
        manifest, written = self._manifest(model_id)
        left_out = {TRAIN_TABLE} if hold_out else {TRAIN_TABLE, TEST_TABLE}
        files = self._files(model_id, manifest, left_out)
        to._sweep()
        if not hold_out and to.has_hold_out(model_id):
            to._store.delete(f"{model_id}/{TEST_TABLE}")
        if to._is_whole(model_id, files):
            return False
        for name, content in {**files, MANIFEST: written}.items():  # may replace the same files after a killed copy
            to._store.replace(f"{model_id}/{name}", content)
        return True

    def _is_whole(self, model_id: str, names: Collection[str]) -> bool:
        """Whether the artifact exists, matches its manifest and has files with these names."""
        try:
            self._verify_files(model_id, self.manifest(model_id))
        except (BrokenArtifactError, UnknownModelError):
            return False
        return all(self._store.exists(f"{model_id}/{name}") for name in names)

    def sign(self, model_id: str, *, vouched: bool = False) -> None:
        """Sign an artifact's manifest again, with the newest key; its digest stays.

        Parameters
        ----------
        model_id : str
        vouched : bool
            Whether a person named it, so that it need not be signed already.

        Raises
        ------
        UnknownModelError
            When there is no such artifact.
        BrokenArtifactError
            When the manifest is refused.
        """
        verified = Registry(self.location, None, self._cache) if vouched else self
        manifest, _ = verified._manifest(model_id)
        self._store.replace(f"{model_id}/{MANIFEST}", self._sealed(manifest))

    def reject(self, model_id: str, report: bytes) -> None:
        """Keep the report of a candidate that failed its gates, and nothing else.

        Raises
        ------
        UnknownModelError
            When the model_id is malformed.
        """
        self._store.replace(f"{REJECTED}/{_parts(model_id)}.html", report)

    def delete(self, model_id: str, by: str = "", reason: str = "") -> None:
        """Delete an artifact, its manifest first. If it is the champion, its use case has none afterwards.

        Raises
        ------
        InvalidSplitError
            When it answers a share of the records.
        UnsignedHistoryError
            When it is the champion by a signed history, and there is no key.
        UnknownModelError
            When there is no such artifact.
        """
        self._store.refresh()
        self.check_exists(model_id)
        try:
            self._store.replace(DELETED, model_id.encode())  # so that a store without models does not look lost
        except OSError:
            if self.list() == [model_id]:
                raise
        is_champion = self.histories.check_may_go(model_id)
        self._store.delete(f"{model_id}/{MANIFEST}")
        if is_champion:
            self.histories.deleted(model_id, by, reason)
        for path in [path for path in self._store.paths() if path.startswith(f"{model_id}/")]:
            self._store.delete(path)

    def _sweep(self) -> None:
        """Remove what killed runs left: artifacts that have had no manifest for a long time."""
        self._store.refresh()
        paths = self._store.paths()

        def has_no_manifest(path: str) -> bool:
            folder = path.rpartition("/")[0]
            return ModelId.parse(folder) is not None and f"{folder}/{MANIFEST}" not in paths

        self._store.sweep(ABANDONED_AFTER, has_no_manifest)

    # reading

    def manifest(self, model_id: str) -> Manifest:
        """An artifact's manifest, verified; its files are not read.

        Raises
        ------
        UnknownModelError
            When there is no such artifact.
        BrokenArtifactError
            When the manifest is not the one that training wrote.
        """
        return self._manifest(model_id)[0]

    def manifest_and_digest(self, model_id: str) -> tuple[Manifest, str]:
        """An artifact's manifest with its digest, verified; `load` gives both with the artifact.

        Raises
        ------
        UnknownModelError
            When there is no such artifact.
        BrokenArtifactError
            When the manifest is not the one that training wrote.
        """
        manifest, written = self._manifest(model_id)
        return manifest, _digest_in(written)

    def load(self, model_id: str) -> Artifact:
        """Verify an artifact's manifest, pipeline and model, then unpickle exactly the verified bytes.

        Raises
        ------
        UnknownModelError
            When there is no such artifact.
        BrokenArtifactError
            When one of the three does not match the manifest.
        """
        import joblib

        manifest, written = self._manifest(model_id)
        _check_versions(model_id, manifest)
        pickled = [self.read(model_id, name, manifest) for name in (PIPELINE, MODEL)]
        try:
            (pipeline, target), (model, task, decision) = (joblib.load(io.BytesIO(content)) for content in pickled)
        except (Exception, SystemExit) as error:  # unpickling may raise whatever the pickled classes' modules raise
            reason = f"its pickles cannot be loaded ({type(error).__name__})"
            raise BrokenArtifactError(model_id, reason) from error
        if markers := manifest.declaration.get("markers"):
            pipeline = pipeline.with_markers(markers)
        return Artifact(manifest, pipeline, target, model, task, decision, _digest_in(written))

    def verify(self, model_id: str) -> None:
        """Check that an artifact can be loaded and that all its files are those that training wrote.

        Raises
        ------
        UnknownModelError
            When there is no such artifact.
        BrokenArtifactError
            When anything does not match the manifest.
        """
        self._verify_files(model_id, self.load(model_id).manifest)

    def version(self, model_id: str) -> object:
        """A value that changes when a file that `load` reads is written again; it is found without reading files."""
        return [self._store.version(f"{model_id}/{name}") for name in (MANIFEST, PIPELINE, MODEL)]

    def hold_out(self, model_id: str, manifest: Manifest) -> bytes:
        """Read the rows that an artifact's training held out, `test.parquet`.

        Raises
        ------
        NoHoldOutError
            When they were not copied with the artifact.
        BrokenArtifactError
            When they are not those that training wrote.
        """
        if not self.has_hold_out(model_id):
            raise NoHoldOutError
        return self.read(model_id, TEST_TABLE, manifest)

    def has_hold_out(self, model_id: str) -> bool:
        """Whether the rows that an artifact's training held out are stored here."""
        return ModelId.parse(model_id) is not None and self._store.exists(f"{model_id}/{TEST_TABLE}")

    def _files(self, model_id: str, manifest: Manifest, left_out: Collection[str] = ()) -> dict[str, bytes]:
        """All files of an artifact except its manifest, verified."""
        return {
            name: self.read(model_id, name, manifest)
            for name in self._names(model_id, manifest)
            if name not in left_out
        }

    def _verify_files(self, model_id: str, manifest: Manifest) -> None:
        """Read the files of an artifact one after the other, and keep none of them."""
        for name in self._names(model_id, manifest):
            self.read(model_id, name, manifest)

    def _names(self, model_id: str, manifest: Manifest) -> tuple[str, ...]:
        """The files that an artifact must have, and those of the others that are here."""
        return tuple(
            name for name in manifest.files if name not in NOT_EVERYWHERE or self._store.exists(f"{model_id}/{name}")
        )

    def read(self, model_id: str, name: str, manifest: Manifest) -> bytes:
        """Read one of an artifact's files.

        Parameters
        ----------
        model_id : str
            The artifact.
        name : str
            The file.
        manifest : Manifest
            The artifact's, with the digest of the file.

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
        except (FileNotFoundError, ValueError):  # ValueError: no file can have this name
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
        except Exception:  # no other problem of a manifest may look like an error of the service
            raise BrokenArtifactError(model_id, "its manifest cannot be read") from None

    def _read_manifest(self, model_id: str) -> tuple[Manifest, bytes]:
        written = self._store.read(f"{model_id}/{MANIFEST}")
        content = json.loads(written)
        protocol, name = content["protocol"], content["model_id"]
        if protocol != PROTOCOL:
            raise BrokenArtifactError(
                model_id,
                f"it has protocol {_quoted(protocol)}, but this program reads {PROTOCOL}: train it again",
            )
        if name != model_id:
            raise BrokenArtifactError(model_id, "its manifest belongs to another model")
        if not self._keys.accept(content.get("hmac", ""), _canonical(content)):
            raise BrokenArtifactError(model_id, "its manifest is not signed with this service's key")
        try:
            manifest = Manifest.from_json(content)
        except ValueError:
            raise BrokenArtifactError(model_id, "its manifest is incomplete") from None
        if not all(map(SAFE_SEGMENT.fullmatch, manifest.files)):  # another name could lead out of the folder
            raise BrokenArtifactError(model_id, "its manifest holds invalid file names")
        if manifest.use_case != _parts(model_id).use_case:
            raise BrokenArtifactError(model_id, "its manifest belongs to another use case")
        if not _is_writable(content):
            raise BrokenArtifactError(model_id, "its manifest cannot be read")
        if not _is_as_written(manifest, content, written):
            raise BrokenArtifactError(model_id, "its manifest is not the one that training wrote")
        return manifest, written

    def _sealed(self, manifest: Manifest) -> bytes:
        """The manifest as it is written: with protocol, digest and, if there is a key, signature."""
        content = {"protocol": PROTOCOL, **manifest.to_json()}
        content["digest"] = _digest(content)
        if self._keys:
            content["hmac"] = self._keys.sign(_canonical(content))
        return _serialized(content)


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
    """Part of a manifest, short and in ASCII, so that any error, answer or log may quote it."""
    text = ascii(value)
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}...{text[-1]}"


def _is_writable(value: object, levels: int = DEEPEST) -> bool:
    """Whether part of a manifest can be written to answers: no lone surrogates, and few levels."""
    if isinstance(value, dict | list):
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        return levels > 0 and all(_is_writable(part, levels - 1) for part in parts)
    return not isinstance(value, str) or not re.search("[\ud800-\udfff]", value)


def _serialized(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=2, allow_nan=False).encode()


def _is_as_written(manifest: Manifest, content: Mapping[str, Any], written: bytes) -> bool:
    """Whether a manifest is, byte for byte, as `save` wrote it; its signature is checked elsewhere."""
    seal = {name: content[name] for name in ("digest", "hmac") if name in content}
    with suppress(ValueError):  # for NaN, which `save` never writes
        complete = {"protocol": PROTOCOL, **manifest.to_json(), **seal}
        return content.get("digest") == _digest(content) and written == _serialized(complete)
    return False


def _digest_in(written: bytes) -> str:
    """The digest in the bytes of a verified manifest."""
    return str(json.loads(written)["digest"])


def _canonical(content: Mapping[str, Any]) -> bytes:
    """The bytes that digest and signature are computed from: everything except these two."""
    return json.dumps({key: content[key] for key in sorted(content) if key not in ("digest", "hmac")}).encode()


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(content)).hexdigest()


def _parts(model_id: str) -> ModelId:
    parts = ModelId.parse(model_id)
    if parts is None:
        raise UnknownModelError
    return parts
