"""The zip archives of `torch.save`, read strictly.

Programs that read zip files disagree about a damaged or a crafted one: what one
finds in it, another does not. So this reader takes an archive only if there is
one way to read it, and if it is as `torch.save` writes it:

- the directory at the end of the file and the header before each record agree;
- records lie one behind the other and fill the file, up to the directory;
- they are stored as they are, so that no small file becomes a large one;
- their CRC-32 are right;
- no name is there twice, and all names are those of a pickle with its tensors.
"""

import re
import struct
import zlib
from typing import NamedTuple

_END = struct.Struct('<4s4H2LH')
_LOCATOR = struct.Struct('<4sLQL')
_END_64 = struct.Struct('<4sQ2H2L4Q')
_ENTRY = struct.Struct('<4s6H3L5H2L')
_LOCAL = struct.Struct('<4s5H3L2H')
_DESCRIPTORS = (struct.Struct('<4s3L'), struct.Struct('<4sL2Q'))
# A field of 2 or 4 bytes whose value stands in one of 8 bytes elsewhere.
_ELSEWHERE = (0xFFFF, 0xFFFFFFFF)
# Flags: sizes follow the record; the name is in UTF-8.
_SIZES_FOLLOW, _UTF8 = 1 << 3, 1 << 11
# Extra fields: sizes of 8 bytes; what PyTorch fills up to an aligned place.
_ZIP64, _PADDING = 1, 0x4246
# What `torch.save` writes, behind the name of the archive.
_NAME = re.compile(
  r'data\.pkl|data/\d{1,20}|version|byteorder|\.format_version'
  r'|\.storage_alignment|\.data/(?:version|serialization_id)'
)
_SCRIPT = re.compile(r'constants\.pkl|constants/.*|code/.*|.*\.debug_pkl')


class UnsupportedError(ValueError):
  """A file is sound, and of a kind that is not read; says what to do."""


class _Entry(NamedTuple):
  """What the directory says of a record."""

  name: str
  needed: int
  flags: int
  method: int
  crc: int
  size: int
  offset: int


def records(content: bytes) -> dict[str, memoryview]:
  """The records of an archive.

  Args:
    content: the file's bytes.

  Returns:
    The bytes of each record by its name behind that of the archive, such as
    'data.pkl' and 'data/0'.

  Raises:
    UnsupportedError: it is of TorchScript, or compressed.
    ValueError: it is not an archive of `torch.save`, or it is damaged.
  """
  entries, end = _directory(content)
  prefix = entries[0].name.partition('/')[0] + '/'
  names = [entry.name.removeprefix(prefix) for entry in entries]
  if any(map(_SCRIPT.fullmatch, names)):
    raise UnsupportedError(
      'is a TorchScript archive, which is code: save its state_dict() instead'
    )
  for entry, name in zip(entries, names, strict=True):
    if not entry.name.startswith(prefix) or not _NAME.fullmatch(name):
      raise ValueError(f'it has a record {entry.name!r}')
    if entry.method:
      raise UnsupportedError(
        f'has {entry.name!r} compressed, as torch.save does not write it: save '
        'it again, torch.save(torch.load(path, weights_only=True), path)'
      )
  if len(set(names)) < len(names) or 'data.pkl' not in names:
    raise ValueError('it has no data.pkl, or two records of one name')
  ordered = sorted(entries, key=lambda entry: entry.offset)
  ends = [*(entry.offset for entry in ordered[1:]), end]
  if ordered[0].offset:
    raise ValueError('there is something before its first record')
  view = memoryview(content)
  return {
    entry.name.removeprefix(prefix): _record(view[entry.offset : stop], entry)
    for entry, stop in zip(ordered, ends, strict=True)
  }


def _directory(content: bytes) -> tuple[list[_Entry], int]:
  """The entries of the directory, at least one, and where it begins."""
  at = len(content) - _END.size
  end = _unpack(_END, content, at, b'PK\5\6')
  disks, counts, (size, start), comment = end[:2], end[2:4], end[4:6], end[6]
  if content[max(at - _LOCATOR.size, 0) :].startswith(b'PK\6\7'):
    locator = at - _LOCATOR.size
    at = locator - _END_64.size
    _, where, _ = _unpack(_LOCATOR, content, locator, b'PK\6\7')
    wide = _unpack(_END_64, content, at, b'PK\6\6')
    agree = all(
      short in (value, *_ELSEWHERE)
      for short, value in zip(end[:6], wide[3:], strict=True)
    )
    if where != at or wide[0] != _END_64.size - 12 or not agree:
      raise ValueError('its directory has two ends that differ')
    disks, counts, (size, start) = wide[3:5], wide[5:7], wide[7:9]
  if any(disks) or comment or counts[0] != counts[1] or start + size != at:
    raise ValueError('its directory does not end with the file')
  entries, place = [], start
  while place < at:
    entry, place = _entry(content, place)
    entries.append(entry)
  if place != at or len(entries) != counts[0] or not entries:
    raise ValueError('its directory has another length than it says')
  return entries, start


def _entry(content: bytes, place: int) -> tuple[_Entry, int]:
  """An entry of the directory, and where the next one begins."""
  fields = _unpack(_ENTRY, content, place, b'PK\1\2')
  _, needed, flags, method, _, _, crc, packed, size, *lengths = fields[:12]
  disk, offset = fields[12], fields[15]
  name_at = place + _ENTRY.size
  extra_at, next_at = name_at + lengths[0], name_at + sum(lengths)
  try:
    name = content[name_at:extra_at].decode()
  except UnicodeDecodeError as error:
    raise ValueError('a name in its directory is not in UTF-8') from error
  if flags & ~(_SIZES_FOLLOW | _UTF8) or disk or lengths[2]:
    raise ValueError(f'{name!r} is encrypted or split, or has a comment')
  extra = _extra(content[extra_at:next_at])
  size, packed, offset = _widened(extra, size, packed, offset)
  if size != packed and not method:
    raise ValueError(f'{name!r} has two lengths')
  return _Entry(name, needed, flags, method, crc, size, offset), next_at


def _record(region: memoryview, entry: _Entry) -> memoryview:
  """The bytes of a record, which the region up to the next one must be."""
  fields = _unpack(_LOCAL, region, 0, b'PK\3\4')
  needed, flags, method, _, _, crc, packed, size, *lengths = fields
  extra_at = _LOCAL.size + lengths[0]
  data_at = _LOCAL.size + sum(lengths)
  extra = _extra(region[extra_at:data_at])
  same = region[_LOCAL.size : extra_at] == entry.name.encode() and (
    needed,
    flags,
    method,
  ) == (entry.needed, entry.flags, 0)
  facts = (entry.crc, entry.size, entry.size)
  data, rest = region[data_at:][: entry.size], region[data_at + entry.size :]
  if flags & _SIZES_FOLLOW:
    same &= (crc, packed, size) == (0, 0, 0)
    same &= any(
      rest == descriptor.pack(b'PK\7\x08', *facts)
      for descriptor in _DESCRIPTORS
      if descriptor.size == len(rest)
    )
  else:
    size, packed, _ = _widened(extra, size, packed, 0)
    same &= (crc, packed, size) == facts and not rest
  if not same:
    raise ValueError(f'{entry.name!r} is not where or what its directory says')
  if len(data) != entry.size or zlib.crc32(data) != entry.crc:
    raise ValueError(
      f'the bytes of {entry.name!r} are not those of its CRC-32, or it was '
      'saved after torch.serialization.set_crc32_options(False)'
    )
  return data


def _extra(content: bytes | memoryview) -> dict[int, bytes]:
  """Extra fields by their numbers."""
  fields, place = {}, 0
  while place < len(content):
    number, length = _unpack(struct.Struct('<2H'), content, place)
    place += 4 + length
    if number not in (_ZIP64, _PADDING) or number in fields:
      raise ValueError(f'it has an extra field {number:#06x}')
    if place > len(content):
      raise ValueError('an extra field is longer than its header says')
    fields[number] = bytes(content[place - length : place])
  return fields


def _widened(extra: dict[int, bytes], *values: int) -> list[int]:
  """Size, packed size and offset, from the extra field where it has them."""
  wide, place, found = extra.get(_ZIP64, b''), 0, []
  for value in values:
    if value == _ELSEWHERE[1] and len(wide) >= place + 8:
      (value,) = struct.unpack_from('<Q', wide, place)
      place += 8
    found.append(value)
  return found


def _unpack(
  layout: struct.Struct,
  content: bytes | memoryview,
  place: int,
  signature: bytes = b'',
) -> tuple[int, ...]:
  """The fields at a place, behind their signature if they have one."""
  if place < 0 or place + layout.size > len(content):
    raise ValueError('it ends too early')
  fields = layout.unpack_from(content, place)
  if signature and fields[0] != signature:
    raise ValueError(f'there is no {signature!r} at byte {place:,}')
  return fields[1:] if signature else fields
