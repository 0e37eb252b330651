"""The page on which people judge: one file of markup, style and script, with nothing from elsewhere.

Static: what raters read comes to it as JSON and is put in as text, never as markup. The policy that travels
with it lets the browser run this script and no other, and speak to this service alone.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files


@cache
def page() -> str:
    """The page as it is sent."""
    return (
        _asset("page.html").replace("/*style*/", _asset("page.css")).replace("/*script*/", _asset("page.js"))
    )


@cache
def policy() -> dict[str, str]:
    """The headers that go with it."""
    rules = (
        "default-src 'none'",
        f"style-src {_hash(_asset('page.css'))}",
        f"script-src {_hash(_asset('page.js'))}",
        "img-src data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return {
        "Content-Security-Policy": "; ".join(rules),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


def _asset(name: str) -> str:
    return files(__package__).joinpath("page", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
