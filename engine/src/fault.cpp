#include "fault.h"

#include <cstdint>

namespace fte {
namespace {

// Bytes of the UTF-8 character that begins at `place` and what it is; 0 where none does.
std::size_t character(const std::string& text, std::size_t place, std::uint32_t* code) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t first = byte(place);
  const std::size_t size = first < 0x80   ? 1
                           : first < 0xc2 ? 0
                           : first < 0xe0 ? 2
                           : first < 0xf0 ? 3
                           : first < 0xf5 ? 4
                                          : 0;
  if (size == 0 || place + size > text.size()) return 0;
  *code = size == 1 ? first : first & (0x7fU >> size);
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(place + i) & 0xc0) != 0x80) return 0;
    *code = *code << 6 | (byte(place + i) & 0x3fU);
  }
  const bool overlong = (size == 3 && *code < 0x800) || (size == 4 && *code < 0x10000);
  return overlong || *code > 0x10ffff || (*code >= 0xd800 && *code < 0xe000) ? 0 : size;
}

// Controls, line ends, and what is invisible or turns the direction of writing.
bool acts_on_terminals(std::uint32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x200b && code <= 0x200f) ||
         (code >= 0x2028 && code <= 0x202e) || (code >= 0x2060 && code <= 0x206f) || code == 0xfeff ||
         (code >= 0xfff0 && code <= 0xffff) || code >= 0xe0000;
}

std::string escaped(std::uint8_t byte) {
  static const char kDigits[] = "0123456789abcdef";
  if (byte == '\n') return "\\n";
  if (byte == '\t') return "\\t";
  if (byte == '\r') return "\\r";
  return {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
}

// The text without its middle, cut between characters.
std::string shortened(const std::string& text, std::size_t most) {
  const auto continues = [&](std::size_t i) { return (static_cast<std::uint8_t>(text[i]) & 0xc0) == 0x80; };
  std::size_t head = most / 2, tail = text.size() - most / 2;
  while (head > 0 && continues(head)) --head;
  while (tail < text.size() && continues(tail)) ++tail;
  return text.substr(0, head) + "..." + text.substr(tail);
}

}  // namespace

std::string shown(const std::string& text, std::size_t most) {
  std::string found;
  for (std::size_t place = 0; place < text.size();) {
    std::uint32_t code = 0;
    const std::size_t size = character(text, place, &code), taken = size ? size : 1;
    for (std::size_t i = place; i < place + taken; ++i) {
      const bool plain = size && !acts_on_terminals(code);
      found += plain ? std::string(1, text[i]) : escaped(static_cast<std::uint8_t>(text[i]));
    }
    place += taken;
  }
  return found.size() > most ? shortened(found, most) : found;
}

}  // namespace fte
