// What stands in errors of what came from outside.
#include <string>

#include "check.h"
#include "fault.h"

int main() {
  using fte::shown;
  CHECK(shown("plain text, (1, 2)") == "plain text, (1, 2)");
  CHECK(shown("Stimme/\xc3\xa4\xe4\xbd\xa0\xf0\x9f\x8e\xb5") == "Stimme/\xc3\xa4\xe4\xbd\xa0\xf0\x9f\x8e\xb5");
  CHECK(shown("a\nb\tc\rd\x1b[31m\x7f") == "a\\nb\\tc\\rd\\x1b[31m\\x7f");
  CHECK(shown(std::string("a\0b", 3)) == "a\\x00b");
  CHECK(shown("\xc2\x85 \xe2\x80\xae \xe2\x80\xa8 \xef\xbb\xbf") ==
        "\\xc2\\x85 \\xe2\\x80\\xae \\xe2\\x80\\xa8 \\xef\\xbb\\xbf");  // next line, direction, line end, byte order
  // no UTF-8: lone, cut, overlong, half a pair, beyond the last
  CHECK(shown("\xff\x80") == "\\xff\\x80");
  CHECK(shown("\xe4\xbd") == "\\xe4\\xbd");
  CHECK(shown("\xc0\xaf\xe0\x80\xaf") == "\\xc0\\xaf\\xe0\\x80\\xaf");
  CHECK(shown("\xed\xa0\x80") == "\\xed\\xa0\\x80");
  CHECK(shown("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");
  CHECK(shown(std::string(1000, 'a') + "end", 20) == "aaaaaaaaaa...aaaaaaaend");
  std::string notes;
  for (int i = 0; i < 100; ++i) notes += "\xe4\xbd\xa0";
  CHECK(shown(notes, 20) == notes.substr(0, 9) + "..." + notes.substr(0, 9));  // cut between characters
  CHECK(std::string(fte::bad_bundle("no\nline").what()) == "no\\nline");
  CHECK(std::string(fte::bad_bundle(std::string(9000, 'x')).what()).size() <= 1003);
  return 0;
}
