"""Run by the judges' interpreter: roc-validator on crates, without a network.

roc_offline.py RO11.json WFRUN.json PROFILE CRATE…    prints {crate: [[check, message], …]} of REQUIRED issues

The two contexts come from local files (specification C.3, recipe 3); any other address is an error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

BASE = "https://w3id.org/ro/"


def install(crate_context: str, run_context: str) -> None:
    """Replace everything through which the validator reaches a network."""
    contexts = {
        f"{BASE}crate/1.1/context": json.loads(Path(crate_context).read_text()),
        f"{BASE}terms/workflow-run/context": json.loads(Path(run_context).read_text()),
    }
    contexts[f"{BASE}crate/1.1/context"].pop("@label", None)

    def reply(url: str, *_: object, **__: object) -> SimpleNamespace:
        content = contexts.get(str(url).split("#")[0])
        if content is None:
            raise RuntimeError(f"asked for {url}")
        text = json.dumps(content)
        return SimpleNamespace(status_code=200, ok=True, headers={"Content-Type": "application/ld+json"}, text=text,
                               content=text.encode(), json=lambda: content, raise_for_status=lambda: None)  # fmt: skip

    from rocrate_validator.utils import document_loader
    from rocrate_validator.utils.http import HttpRequester

    document_loader._fetch_json_ld = lambda url: reply(url).json()
    HttpRequester.get = HttpRequester.head = lambda self, url, *a, **k: reply(url)


def main(crate_context: str, run_context: str, profile: str, *crates: str) -> None:
    """Print the REQUIRED issues of every crate."""
    install(crate_context, run_context)
    from rocrate_validator import services
    from rocrate_validator.models import Severity

    answer = {}
    for crate in crates:
        result = services.validate(
            services.ValidationSettings(rocrate_uri=crate, profile_identifier=profile, offline=True,
                                        requirement_severity=Severity.REQUIRED)
        )  # fmt: skip
        answer[crate] = sorted([issue.check.identifier, issue.message] for issue in result.get_issues())
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
