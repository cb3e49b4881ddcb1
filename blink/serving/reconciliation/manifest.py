"""The manifest: what the service offers, and where."""

from __future__ import annotations

from typing import Any

from blink import __version__
from blink.serving.reconciliation.extending import SETTINGS
from blink.serving.reconciliation.pages import HEIGHT, WIDTH
from blink.serving.reconciliation.queries import BATCH_SIZE
from blink.serving.reconciliation.schema import Schema

VERSIONS = ["0.1", "0.2"]
OWN_SPACE = "urn:blink:"
WIKIDATA_SPACE = "http://www.wikidata.org/entity/"
SCHEMA_SPACE = "urn:blink:schema:"
DEFAULT_TYPES = 10


def manifest(url: str, name: str, schema: Schema) -> dict[str, Any]:
    """The manifest of a service.

    Args:
        url: address of the service, without a slash at its end.
        name: of the knowledge base.
        schema: its types; the most frequent are proposed first.
    """
    suggest = {
        of: {
            "service_url": url,
            "service_path": f"/suggest/{of}",
            "flyout_service_url": url,
            "flyout_service_path": f"/flyout/{of}?id=${{id}}",
        }
        for of in ("entity", "type", "property")
    }
    types = list(schema.types)[:DEFAULT_TYPES]
    return {
        "versions": VERSIONS,
        "name": name,
        "identifierSpace": WIKIDATA_SPACE if schema.has_wikidata_ids else OWN_SPACE,
        "schemaSpace": SCHEMA_SPACE,
        "defaultTypes": [{"id": of, "name": of} for of in types],
        "serviceVersion": __version__,
        "view": {"url": f"{url}/view?id={{{{id}}}}"},
        "preview": {"url": f"{url}/preview?id={{{{id}}}}", "width": WIDTH, "height": HEIGHT},
        "suggest": suggest,
        "extend": {
            "propose_properties": {"service_url": url, "service_path": "/properties"},
            "property_settings": SETTINGS,
        },
        "batchSize": BATCH_SIZE,
    }
