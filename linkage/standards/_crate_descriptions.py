"""What a crate says of itself to those who do not read RO-Crate: CodeMeta of its programs, DataCite of the whole.

Sources: CodeMeta 3.0 (https://w3id.org/codemeta/3.0; Jones et al. 2017, doi 10.5063/schema/codemeta-2.0); DataCite
Metadata Schema 4.5 (doi 10.14454/g8e5-6293), its mandatory properties and what of the others is known. No DOI is made
up: who registers one adds it.
"""

from __future__ import annotations

from typing import Any

from ..core import Holdings, Program
from ..passport import passport_of

CODEMETA = "https://w3id.org/codemeta/3.0"
DATACITE = "http://datacite.org/schema/kernel-4"
MANDATORY = ("creators", "titles", "publisher", "publicationYear", "types")
"""Of DataCite 4, beside the identifier."""


def codemeta(program: Program) -> dict[str, Any]:
    """A program as CodeMeta has it, as far as its passport tells."""
    passport = passport_of(program)
    said = {
        "@context": CODEMETA,
        "@type": "SoftwareSourceCode",
        "name": program.name,
        "version": program.version,
        "identifier": program.id,
        "description": " ".join(str(passport.get("intended_use", "")).split()),
        "license": f"https://spdx.org/licenses/{passport['licence']}" if "licence" in passport else "",
        "programmingLanguage": "Python",
        "author": [{"@type": "Organization", "name": f"The {program.name} developers"}],
        "applicationCategory": "research; not a medical device" if passport.get("not_a_medical_device") else "",
    }
    return {name: value for name, value in said.items() if value}


def datacite(holdings: Holdings, *, holder: str, description: str, notice: str, day: str) -> dict[str, Any]:
    """The crate as DataCite has it: a data set of the holder's, of this day, under no licence."""
    titles = [one.title for one in holdings.study] or ["runs of oncoscale"]
    organisation = {"name": holder, "nameType": "Organizational"}
    return {
        "schemaVersion": DATACITE,
        "creators": [organisation],
        "titles": [{"title": title, "lang": "en"} for title in titles],
        "publisher": {"name": holder},
        "publicationYear": day[:4],
        "types": {"resourceTypeGeneral": "Dataset", "resourceType": "RO-Crate of runs"},
        "subjects": [{"subject": one} for one in ("oncology", "medical imaging", "solid tumour", "simulation")],
        "dates": [{"date": day, "dateType": "Created"}],
        "language": "en",
        "descriptions": [{"description": description, "descriptionType": "Abstract", "lang": "en"}],
        "rightsList": [{"rights": notice, "lang": "en"}],
        "formats": ["application/ld+json", "application/json"],
    }
