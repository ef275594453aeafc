"""Which picture format some bytes are, told by their first bytes alone: the file's extension is never asked.

Needs the standard library only, so that a folder can be listed without a decoder being loaded.
"""

HEAD_BYTES = 64  # enough for every magic number below; an SVG behind a long XML declaration may need more

# Files with these extensions are pictures to their owner, whether or not they can be decoded here.
_EXTENSIONS = {
    "JPEG": ".jpg .jpeg .jpe .jfif",
    "PNG": ".png .apng",
    "WEBP": ".webp",
    "BMP": ".bmp .dib",
    "GIF": ".gif",
    "TIFF": ".tif .tiff",
    "HEIC": ".heic .heif .hif",
    "AVIF": ".avif",
    "JP2": ".jp2 .j2k .jpf .jpx",
    "JXL": ".jxl",
    "JXR": ".jxr .wdp .hdp",
    "RAW": ".cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .dng .orf .rw2 .raf .pef .raw",
    "PSD": ".psd .psb",
    "XCF": ".xcf",
    "ICO": ".ico .cur",
    "ICNS": ".icns",
    "SVG": ".svg .svgz",
    "EPS": ".eps",
    "WMF": ".wmf .emf",
    "PNM": ".pbm .pgm .ppm .pnm .pam .pfm",
    "TGA": ".tga",
    "QOI": ".qoi",
    "DDS": ".dds",
    "EXR": ".exr",
    "HDR": ".hdr",
    "FITS": ".fits .fit",
    "DJVU": ".djvu",
}
IMAGE_EXTENSIONS = frozenset(" ".join(_EXTENSIONS.values()).split())

# What load_picture() decodes.
SUPPORTED = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")

# What sniff() knows by its first bytes and load_picture() refuses by name.
RECOGNISED = {
    "HEIC": "a HEIC/HEIF photograph",
    "AVIF": "an AVIF picture",
    "JP2": "a JPEG 2000 picture",
    "JXL": "a JPEG XL picture",
    "JXR": "a JPEG XR picture",
    "RAW": "a camera raw file",
    "PSD": "a Photoshop document",
    "XCF": "a GIMP document",
    "ICO": "a Windows icon",
    "ICNS": "a macOS icon",
    "SVG": "an SVG drawing",
    "PDF": "a PDF document",
    "EPS": "a PostScript document",
    "WMF": "a Windows metafile",
    "PNM": "a Netpbm picture",
    "QOI": "a QOI picture",
    "DDS": "a DirectDraw surface",
    "EXR": "an OpenEXR picture",
    "HDR": "a Radiance HDR picture",
    "FITS": "a FITS image",
    "DJVU": "a DjVu document",
}

# (offset, magic, name): the first hit counts, so the longer magic of a family stands before the shorter.
_MAGICS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (0, b"II*\x00\x10\x00\x00\x00CR", "RAW"),  # Canon CR2, a TIFF otherwise
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"II+\x00", "TIFF"),
    (0, b"MM\x00+", "TIFF"),
    (0, b"IIRO", "RAW"),  # Olympus
    (0, b"IIRS", "RAW"),
    (0, b"MMOR", "RAW"),
    (0, b"IIU\x00", "RAW"),  # Panasonic
    (0, b"FUJIFILMCCD-RAW", "RAW"),
    (0, b"II\x1a\x00\x00\x00HEAPCCDR", "RAW"),  # Canon CRW
    (0, b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JP2"),
    (0, b"\xff\x4f\xff\x51", "JP2"),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JXL"),
    (0, b"\xff\x0a", "JXL"),
    (0, b"II\xbc\x01", "JXR"),
    (0, b"8BPS\x00", "PSD"),
    (0, b"gimp xcf", "XCF"),
    (0, b"icns", "ICNS"),
    (0, b"%PDF-", "PDF"),
    (0, b"%!PS", "EPS"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS"),
    (0, b"\xd7\xcd\xc6\x9a", "WMF"),
    (40, b" EMF", "WMF"),
    (0, b"qoif", "QOI"),
    (0, b"DDS ", "DDS"),
    (0, b"v/1\x01", "EXR"),
    (0, b"#?RADIANCE", "HDR"),
    (0, b"#?RGBE", "HDR"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"AT&TFORM", "DJVU"),
)

# Major brands of the ISO base media format (ISO 14496-12) that hold still pictures.
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    b"crx ": "RAW",  # Canon CR3
}

_BMP_HEADER_SIZES = (12, 40, 52, 56, 64, 108, 124)


def sniff(head: bytes | memoryview) -> str | None:
    """Name the picture format that a file begins with: one of SUPPORTED or RECOGNISED, or None.

    head: the first HEAD_BYTES of the file or more (an SVG is looked for in 1,024); fewer are read as far as they go.
    """
    head = bytes(head[:1024])
    for offset, magic, name in _MAGICS:
        if head.startswith(magic, offset):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return _sniff_brand(head)
    return _sniff_weak(head)


def _sniff_brand(head: bytes) -> str | None:
    """HEIC, AVIF or CR3 by the major brand, then by the compatible ones; None for films."""
    major = head[8:12]
    compatible = {head[at : at + 4] for at in range(16, len(head) - 3, 4)}
    if major in (b"mif1", b"msf1") and compatible & {b"avif", b"avis"}:
        return "AVIF"
    return _BRANDS.get(major)


def _sniff_weak(head: bytes) -> str | None:
    """The formats whose magic is short or textual, so that more than the magic is asked of them."""
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return "BMP"
    if head[:4] in (b"\x00\x00\x01\x00", b"\x00\x00\x02\x00") and head[4:6] != b"\x00\x00" and head[9:10] == b"\x00":
        return "ICO"
    if head[:1] == b"P" and head[1:2] in b"1234567Ff" and head[2:3].isspace():
        return "PNM"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return "SVG"
    return None
