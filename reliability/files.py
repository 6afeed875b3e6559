"""Files made to harm whoever reads them: bombs, loops, entities and links that name a file or an address, `../` names.

Each is sent to a server that runs. It is read harmlessly, or refused, or its document fails: never a 500, no word of a
file of the machine in any answer, no connection to the address, no file made under the name it asks for.
"""

from __future__ import annotations

import io
import socket
import tempfile
import time
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx

from app.local_server import LocalServer
from reliability.outcome import Outcome

_WORD = "canaryword9c41"
_MIB = 1024**2
_DOCX_TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" '
    'ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/word/document.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_WORDS = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_TEXT = b"BT /T 9 Tf 9 9 Td (A lamp turns in the tower by the sea.) Tj ET "
_TEXT_PAGE = (
    "/Contents 4 0 R /Resources <</XObject <</F 4 0 R>> "
    "/Font <</T <</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>>>>>"
)
_CONTAINER = (
    '<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile '
    'full-path="{}" media-type="application/oebps-package+xml"/></rootfiles></container>'
)


def run(server: LocalServer, *, seed: int = 1, full: bool = True) -> Outcome:
    """Send every such file.

    Args:
        seed: not used: nothing here is left to chance.
        full: every way of naming a file and an address, and larger bombs; else one way for each.
    """
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="lorebase-files-") as folder, socket.create_server(("127.0.0.1", 0)) as ear:
        secret = Path(folder) / "secret.txt"
        secret.write_text(f"The {_WORD} is not for you.")
        address = f"http://127.0.0.1:{ear.getsockname()[1]}"
        mark = f"escaped{uuid.uuid4().hex[:8]}"
        headers = {"Authorization": f"Bearer {server.default_key}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=180) as client:
            for name, content in _files(secret.as_uri(), address, mark, full):
                _send(client, outcome, name, content)
            alive = client.post(
                "/ingest", params={"wait": "true"}, json={"documents": [{"text": "A lamp, after all."}]}
            )
            outcome.check(
                alive.json()["documents"][0]["status"] == "ready", f"not served after all: {alive.text[:200]}"
            )
            client.delete(f"/documents/{alive.json()['documents'][0]['id']}").raise_for_status()
        ear.setblocking(False)
        outcome.check(not _called(ear), "a connection came to the address that files name")
        made = [str(path) for root in (server.data.parent, Path(folder)) for path in root.rglob(f"*{mark}*")]
        made += [str(path) for path in Path(tempfile.gettempdir()).glob(f"*{mark}*")]
        outcome.check(not made, f"files were made: {made}")
    return outcome


def _send(client: httpx.Client, outcome: Outcome, name: str, content: bytes) -> None:
    """Send a file and read everything that came of it, then delete it."""
    began = time.perf_counter()
    sent = client.post("/ingest", params={"wait": "true"}, files=[("files", (name, content))])
    outcome.largest("slowest_s", time.perf_counter() - began)
    outcome.check(sent.status_code < 500, f"{name}: {sent.status_code} {sent.text[:300]}")
    outcome.check(_WORD not in sent.text, f"{name}: the answer holds the file's words")
    kind = "refused"
    documents = sent.json().get("documents", ()) if sent.is_success else ()
    for document_id in {document["id"] for document in documents}:  # equal files are one document
        path = f"/documents/{document_id}"
        ends = client.get(path).json()["status"]
        kind = "documents_read" if ends == "ready" else "documents_failed"
        outcome.check(ends in ("ready", "failed"), f"{name}: its document is {ends}")
        for part in ("", "/text", "/chunks", "/pages/1.png"):
            answer = client.get(path + part)
            outcome.check(answer.status_code < 500, f"{name}, {part}: {answer.status_code} {answer.text[:200]}")
            outcome.check(_WORD.encode() not in answer.content, f"{name}{part}: the answer holds the file's words")
        client.delete(path).raise_for_status()
    outcome.figures[kind] = outcome.figures.get(kind, 0) + 1
    alive = client.get("/livez")
    outcome.check(alive.status_code == 200, f"/livez after {name}: {alive.status_code}")


def _called(ear: socket.socket) -> bool:
    try:
        ear.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def _files(file: str, address: str, mark: str, full: bool) -> Iterator[tuple[str, bytes]]:
    """Names and contents.

    Args:
        file: the URI of a file of this machine.
        mark: part of the names that must not come to be.
    """
    for name, target in (("file", file), ("address", f"{address}/x.dtd")):
        entity = f'<!DOCTYPE d [<!ENTITY e SYSTEM "{target}">]>'
        parameter = f'<!DOCTYPE d [<!ENTITY % e SYSTEM "{target}"> %e;]>'
        for way, head in (("entity", entity), ("parameter", parameter), ("dtd", f'<!DOCTYPE d SYSTEM "{target}">')):
            if not full and (name, way) not in (("file", "entity"), ("address", "dtd")):
                continue
            used = "&e;" if way == "entity" else ""
            yield f"{name}-{way}.xml", f'<?xml version="1.0"?>{head}<d>A lamp. {used}</d>'.encode()
            yield f"{name}-{way}.docx", _docx(f"A lamp. {used}", head=head)
            yield f"{name}-{way}.epub", _epub(f"<p>A lamp. {used}</p>", head=head)
        if not full and name == "file":
            continue
        yield f"{name}-links.html", _page(target).encode()
        yield f"{name}-links.md", f"# A lamp\n\n![]({target}) [x]({target}) <img src='{target}'>".encode()
        yield f"{name}-links.docx", _docx("A lamp.", related=target)
        yield f"{name}-links.epub", _epub(_page(target))
        yield (
            f"{name}-links.pdf",
            _pdf(
                f"/OpenAction <</S /URI /URI ({target})>>", page=_TEXT_PAGE + "/AA <</O <</S /Launch /F ({target})>>>>"
            ),
        )
        yield f"{name}-mail.eml", f"Subject: x\nContent-Type: text/html\n\n{_page(target)}".encode()
    bomb_mib = 600 if full else 60
    yield "laughs.xml", _laughs("<d>&l9;</d>").encode()
    yield "laughs.docx", _docx("&l9;", head=_laughs(""))
    yield "deep.html", b"<div>" * 100_000
    yield "deep.xml", b"<d>" * 10_000
    yield "deep.json", b"[" * 1_000_000
    yield "page-loop.pdf", _pdf(pages="/Kids [2 0 R] /Count 1000000000")
    yield "object-loop.pdf", _pdf(page="/Contents 3 0 R /Resources 3 0 R /Parent 3 0 R")
    yield "form-loop.pdf", _pdf(page=_TEXT_PAGE, stream=_TEXT + b"/F Do " * 100)
    yield "huge-page.pdf", _pdf(page=f"{_TEXT_PAGE} /MediaBox [0 0 1000000000 1000000000]", stream=_TEXT)
    yield "long-stream.pdf", _pdf(page="/Contents 4 0 R", stream=b"BT ET", length=2**62)
    yield "bomb.pdf", _pdf(page="/Contents 4 0 R", stream=_deflated(b"1 0 0 1 0 0 cm ", bomb_mib), filtered=True)
    bomb: dict[str, str | bytes] = {"[Content_Types].xml": _DOCX_TYPES, "word/document.xml": bytes(bomb_mib * _MIB)}
    yield "bomb.docx", _zip(bomb)
    yield "bomb.zip", _zip({f"{n}.txt": b" " * (bomb_mib * _MIB // 4) for n in range(4)})
    nested = _zip({"a.txt": "A lamp."})
    for _ in range(12):
        nested = _zip({"a.zip": nested, "b.zip": nested})
    yield "nested.zip", nested
    yield "many.zip", _zip({f"{n}.txt": "x" for n in range(5000)})
    names = (f"../{mark}.txt", f"../../../../tmp/{mark}.txt", f"/tmp/{mark}.txt", f"..\\{mark}.txt", f"C:\\{mark}.txt")
    for name in names:
        yield "names.zip", _zip({name: "A lamp."})
        yield name, b"A lamp."
    yield "names.epub", _epub("<p>A lamp.</p>", package=f"../{mark}.opf")
    yield "names.docx", _zip({"[Content_Types].xml": _DOCX_TYPES, f"../{mark}.xml": "<d/>"})


def _page(target: str) -> str:
    return (
        f"<html><head><link rel=stylesheet href='{target}'><script src='{target}'></script><base href='{target}'>"
        f"<meta http-equiv=refresh content='0;url={target}'></head><body><p>A lamp.</p><img src='{target}'>"
        f"<iframe src='{target}'></iframe><object data='{target}'></object></body></html>"
    )


def _laughs(body: str) -> str:
    """Entities that grow tenfold nine times."""
    lines = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    head = f'<!DOCTYPE d [<!ENTITY l0 "lamp">{lines}]>'
    return f'<?xml version="1.0"?>{head}{body}' if body else head


def _docx(text: str, *, head: str = "", related: str = "") -> bytes:
    picture = '<w:r><w:drawing><a:blip xmlns:a="urn:a" r:link="rId1"/></w:drawing></w:r>' if related else ""
    relation = f'<Relationship Id="rId1" TargetMode="External" Type="{_OFFICE}/%s" Target="{related}"/>'
    relations = relation % "image" + relation.replace("rId1", "rId2") % "attachedTemplate" if related else ""
    document = (
        f'<?xml version="1.0"?>{head}<w:document xmlns:w="{_WORDS}" xmlns:r="{_OFFICE}"><w:body><w:p><w:r><w:t>{text}'
        f"</w:t></w:r>{picture}</w:p></w:body></w:document>"
    )
    main = f'<Relationship Id="rId1" Type="{_OFFICE}/officeDocument" Target="word/document.xml"/>'
    return _zip(
        {
            "[Content_Types].xml": _DOCX_TYPES,
            "_rels/.rels": f'<Relationships xmlns="{_RELATIONS}">{main}</Relationships>',
            "word/_rels/document.xml.rels": f'<Relationships xmlns="{_RELATIONS}">{relations}</Relationships>',
            "word/document.xml": document,
        }
    )


def _epub(body: str, *, head: str = "", package: str = "p.opf") -> bytes:
    content = (
        f'<?xml version="1.0"?>{head}<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><manifest><item '
        'id="a" href="a.xhtml" media-type="application/xhtml+xml"/></manifest><spine><itemref idref="a"/></spine>'
        "</package>"
    )
    chapter = f'<?xml version="1.0"?>{head}<html xmlns="http://www.w3.org/1999/xhtml"><body>{body}</body></html>'
    parts = {"META-INF/container.xml": _CONTAINER.format(package), package: content, "a.xhtml": chapter}
    return _zip({"mimetype": "application/epub+zip", **parts})


def _pdf(
    catalog: str = "",
    *,
    pages: str = "/Kids [3 0 R] /Count 1",
    page: str = "",
    stream: bytes = b"",
    length: int | None = None,
    filtered: bool = False,
) -> bytes:
    """A PDF of one page; what is given stands in its objects."""
    said = f"/Length {len(stream) if length is None else length}{' /Filter /FlateDecode' if filtered else ''}"
    objects = (
        f"<</Type /Catalog /Pages 2 0 R {catalog}>>".encode(),
        f"<</Type /Pages {pages}>>".encode(),
        f"<</Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] {page}>>".encode(),
        f"<</Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources <</XObject <</F 4 0 R>>>> {said}>>".encode()
        + b"\nstream\n" + stream + b"\nendstream",
    )  # fmt: skip
    out, places = b"%PDF-1.7\n", []
    for number, each in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"xref\n0 5\n0000000000 65535 f \n%strailer\n<</Size 5 /Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (
        table, len(out),
    )  # fmt: skip


def _deflated(text: bytes, mib: int) -> bytes:
    packer = zlib.compressobj(9)
    block = text * (_MIB // len(text))
    return b"".join(packer.compress(block) for _ in range(mib)) + packer.flush()


def _zip(parts: Mapping[str, str | bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()
