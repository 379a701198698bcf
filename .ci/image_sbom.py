"""An SBOM of every built image (CycloneDX): what is really in it, Debian's packages and Python's, asked of the image."""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amago.errors import ConfigurationError
from amago_suite.images import Image, connect
from amago_suite.images.listing import READY, list_images

if TYPE_CHECKING:
    from cyclonedx.model.bom import Bom

_ASK = """
import importlib.metadata, json, subprocess
debian = subprocess.run(["dpkg-query", "-W", "-f", "${Package}\\t${Version}\\n"], capture_output=True, text=True, check=True)
python = [[d.metadata["Name"], d.version] for d in importlib.metadata.distributions()]
print(json.dumps({"debian": [line.split("\\t") for line in debian.stdout.splitlines()], "python": python}))
"""


def write_sboms(families: list[str], folder: Path) -> list[str]:
    """Write an SBOM of every image that Docker has and that fits this code. Returns lines to print."""
    try:
        client = connect("docker")
    except ConfigurationError as error:
        return [f"images: not looked into: {error}"]
    lines = []
    for listed in list_images(families, ["docker"]):
        if listed.state != READY or listed.image is None:
            lines.append(f"image of {listed.family}: {listed.state}, no SBOM")
            continue
        content = contents(client, listed.image)
        target = folder / f"image-{listed.family}.cdx.json"
        created = str(client.images.get(listed.image.image_id).attrs["Created"])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(as_json(sbom(listed.image, content, created)))
        counts = ", ".join(f"{len(found)} {kind} packages" for kind, found in content.items())
        lines.append(f"image of {listed.family}: {counts}, SBOM in {target.name}")
    client.close()
    return lines


def contents(client: Any, image: Image) -> dict[str, list[list[str]]]:
    """``{"debian": [[name, version]], "python": [[name, version]]}`` of an image."""
    output = client.containers.run(
        image.image_id, ["python", "-c", _ASK], remove=True, network_mode="none", read_only=True
    )
    found = json.loads(output)
    return {kind: sorted(found[kind]) for kind in ("debian", "python")}


def sbom(image: Image, content: dict[str, list[list[str]]], created: str) -> Bom:
    """The same for the same image, to the byte."""
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    def component(kind: str, name: str, version: str) -> Component:
        url = (
            PackageURL("deb", "debian", name, version)
            if kind == "debian"
            else PackageURL("pypi", None, name.lower().replace("_", "-"), version)
        )
        return Component(
            name=name, version=version, type=ComponentType.LIBRARY, purl=url, bom_ref=url.to_string()
        )

    subject = Component(
        name=image.reference, version=image.image_id, type=ComponentType.CONTAINER, bom_ref=image.image_id
    )
    when = datetime.fromisoformat(created[:19] + "+00:00")
    components = [component(kind, *entry) for kind, entries in content.items() for entry in entries]
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, image.image_id),
        metadata=BomMetaData(component=subject, timestamp=when),
        components=components,
    )
    bom.register_dependency(subject, components)
    return bom


def as_json(bom: Bom) -> str:
    """CycloneDX 1.6."""
    from cyclonedx.output.json import JsonV1Dot6

    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"
