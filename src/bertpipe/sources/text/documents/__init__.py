"""Anyone's text as documents: files, folders and archives of text, the notebook's zip and aclImdb.

What is read
    - a text file of any name: `formats` has the formats, and says how each becomes documents;
    - `.jsonl` and `.ndjson`: one JSON object per line, the text in one field of it;
    - `.gz`, `.zst`, `.bz2` and `.xz` of these;
    - a folder, or a `.zip`, a `.tar`, a packed tar (`.tar.gz`, `.tgz`, ...) of such files: `selection`
      says which of its files;
    - the notebook's zip and aclImdb's tree, which know their own splits: `notebook`, `selection`.

In which order
    The files of a folder and of a zip in the byte order of their names; those of a tar as they stand in it, since it
    is read in one go. The same bytes give the same documents.

What is refused
    Whatever would lose or change text silently: bytes that are not UTF-8, NUL characters, damaged or
    encrypted archives, archives within archives, documents above `streams.LARGEST_DOCUMENT`. Nothing is unpacked to
    disk, and of the text no more than a document is held in memory.
"""

from bertpipe.sources.text.documents.formats import Document
from bertpipe.sources.text.documents.reading import TextShard, read_documents, text_shards, text_size

__all__ = ["Document", "TextShard", "read_documents", "text_shards", "text_size"]
