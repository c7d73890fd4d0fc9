"""What a file's own bytes tell, without decoding: what it is when it is not sound, what it seems to be, whether its end is missing."""

import os
from typing import Final

NUM_BYTES: Final = 4096

_FOREIGN: Final[tuple[tuple[bytes, str], ...]] = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or an office document; if it is an archive, unpack it and add the sound files in it"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"Rar!", "a RAR archive; unpack it and add the sound files in it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it and add the sound files in it"),
    (b"\x1f\x8b", "a gzip archive; unpack it and add the sound files in it"),
    (b"BZh", "a bzip2 archive; unpack it and add the sound files in it"),
    (b"\xfd7zXZ\x00", "an xz archive; unpack it and add the sound files in it"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\xd0\xcf\x11\xe0", "an old office document"),
    (b"{\\rtf", "an RTF document"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"SQLite format 3", "a database"),
    (b"-----BEGIN PGP", "encrypted with PGP; decrypt it first"),
    (b"Salted__", "encrypted with OpenSSL; decrypt it first"),
)
_PLAYLISTS: Final = (b"#EXTM3U", b"ffconcat", b"[playlist]", b"<?xml", b"<MPD", b"<smil", b"<asx")
_SOUNDING: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"RIFF", "a WAV or AVI file"),
    (0, b"RF64", "a WAV file"),
    (0, b"riff", "a Wave64 file"),
    (0, b"fLaC", "a FLAC file"),
    (0, b"OggS", "an Ogg file"),
    (0, b"ID3", "an MP3 file"),
    (4, b"ftyp", "an MP4 file"),
    (4, b"moov", "a QuickTime file"),
    (0, b"\x1a\x45\xdf\xa3", "a Matroska or WebM file"),
    (0, b"FORM", "an AIFF file"),
    (0, b"caff", "a CAF file"),
    (0, b"\x30\x26\xb2\x75", "a Windows Media file"),
    (0, b"#!AMR", "an AMR file"),
    (0, b".snd", "an AU file"),
    (0, b"FLV", "an FLV file"),
)


def name_foreign(head: bytes) -> str | None:
    """Return what the file is, when its first bytes show that it is no sound file; else None."""
    for magic, name in _FOREIGN:
        if head.startswith(magic):
            return name
    if not _is_text(head):
        return None
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(_PLAYLISTS):
        return "a playlist or another file that only points at sound elsewhere; add the sound files themselves"
    if start[:16].lower().startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<!--")):
        return "a web page"
    return "a text file"


def name_sounding(head: bytes) -> str | None:
    """Return the kind of sound file that the first bytes promise; else None."""
    return next((name for offset, magic, name in _SOUNDING if head[offset:].startswith(magic)), None)


def is_cut(container: str, descriptor: int) -> bool:
    """Tell whether a file ends before its own structure says so, where FFmpeg does not mind.

    Args:
        container: FFmpeg's name of the format.
        descriptor: the file, open for reading.
    """
    size = os.fstat(descriptor).st_size
    if container in {"wav", "avi"}:
        claimed = int.from_bytes(os.pread(descriptor, 4, 4), "little") + 8
        return size < claimed < 2**32  # the greatest values are written by those who do not know yet
    if container == "matroska,webm":
        return size < _matroska_end(os.pread(descriptor, NUM_BYTES, 0))
    if container == "ogg":  # the last page is marked as such
        tail = os.pread(descriptor, 2**17, max(0, size - 2**17))
        flags = tail[tail.rfind(b"OggS") :][5:6] or b"\0"
        return not flags[0] & 4
    return False


def _matroska_end(head: bytes) -> int:
    """Return where the segment, which holds all, ends by its own account; 0 if it does not say."""
    start = head.find(b"\x18\x53\x80\x67") + 4
    first = head[start : start + 1]
    if start < 4 or not first or not first[0]:
        return 0
    width = 9 - first[0].bit_length()  # leading zero bits tell of how many bytes the size consists
    mask = (1 << 7 * width) - 1
    length = int.from_bytes(head[start : start + width], "big") & mask
    return 0 if length == mask else start + width + length


def _is_text(head: bytes) -> bool:
    if len(head) < 4 or any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head):
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4  # a character cut in two by the end of `head`
    return True
