"""More artifacts for tests without training: copies of a trained one under other names."""

import hashlib
import json
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from tabserve.registry.manifest import Manifest
from tabserve.registry.registry import Registry

OLD, NEW = "0000000001.000000", "9999999999.000000"  # timestamps before and after any real training's
_seconds = count(1_900_000_000)


def copy_of(registry: Registry, model_id: str | None = None, **changes: Any) -> str:
    """Save the newest credit artifact again, by default under a newer name; return the new model_id."""
    source = registry.latest("credit")
    manifest = Manifest.from_json(json.loads((registry.location / source / "manifest.json").read_text()))
    files = {name: (registry.location / source / name).read_bytes() for name in manifest.files}
    new_id = model_id or f"credit-lightgbm_v1.0.0-{next(_seconds)}.000000"
    return registry.save(files, replace(manifest, **changes, model_id=new_id))


def edit_manifest(registry: Registry, model_id: str, /, **changes: Any) -> None:
    """Change parts of a manifest on disk and its digest, so that only the change itself can be refused."""
    path = registry.location / model_id / "manifest.json"
    manifest = {**json.loads(path.read_text()), **changes}
    content = json.dumps({key: manifest[key] for key in sorted(manifest) if key not in ("digest", "hmac")})
    manifest["digest"] = hashlib.sha256(content.encode()).hexdigest()
    path.write_text(json.dumps(manifest, indent=2))


def change_byte(path: Path, position: int = -1) -> None:
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(bytes(content))
