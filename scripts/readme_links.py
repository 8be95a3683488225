"""Give README.md whole addresses for its pictures and its links to other files, for a package index."""

import argparse
import re
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
_RELATIVE = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)]*)\)")


def with_whole_addresses(text: str, repository: str, revision: str) -> str:
    """Return Markdown whose relative links lead into a repository of GitHub's form, as it is at a revision."""

    def whole(link: re.Match[str]) -> str:
        picture, label, path = link.groups()
        return f"{picture}[{label}]({repository}/{'raw' if picture else 'blob'}/{revision}/{path})"

    return _RELATIVE.sub(whole, text)


def main() -> None:
    """Rewrite README.md in place: for a checkout that is thrown away after the release."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repository", help="its address, https://HOST/OWNER/NAME")
    parser.add_argument("revision", help="a tag or a commit")
    arguments = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    README.write_text(with_whole_addresses(text, arguments.repository, arguments.revision), encoding="utf-8")


if __name__ == "__main__":
    main()
