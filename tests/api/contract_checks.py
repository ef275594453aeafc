"""What schemathesis loads for tests/api/test_contract.py: the one check of its own that our API needs said in words.

Its `positive_data_acceptance` fails for any 422 on a request that the description allows. Some refusals are about
meaning, which no JSON schema can say: they have problem types of their own, and only these may pass.
"""

from typing import Any

import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance

ABOUT_MEANING = {
    *("bad-cursor", "query-refused", "query-too-slow", "invalid-model", "unknown-model", "invalid-recipe"),
    *("webhook-refused", "bad-source", "no-such-path", "unreadable-path", "not-rendered"),
    *("key-reused", "too-broad", "bad-name", "contradictory"),
}


@schemathesis.check
def refusals_are_about_meaning(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> bool | None:
    """As `positive_data_acceptance`, but for the refusals that are about meaning."""
    if {None, "null"} & set((case.path_parameters or {}).values()):
        return None  # a link from an answer where the id is null: nothing that our description allows
    if response.status_code == 422 and response.json()["type"].removeprefix("/errors#") in ABOUT_MEANING:
        return None
    accepted: bool | None = positive_data_acceptance(ctx, response, case)
    return accepted
