// A bundle in which one thing is not as the exporter writes it, with the right hashes, is refused when it is opened.
#include <cmath>
#include <cstdio>
#include <functional>
#include <limits>

#include "bundle_parts.h"

namespace {

using namespace fte_test;

fte_status open_voice(const std::string& folder, fte_voice** voice) {
  fte_voice_options options;
  fte_voice_options_init(&options);
  options.threads = 1;
  return fte_voice_open(folder.c_str(), &options, voice);
}

class Bundle {
 public:
  Bundle(const std::string& data, const std::string& precision)
      : manifest(without_files(read_file(data + "/voice/manifest.json"))),
        entries(take_apart(read_file(data + "/voice/engine." + precision + ".safetensors"))),
        precision_(precision) {}

  void opens() {
    fte_voice* voice = nullptr;
    folder_.write(manifest, precision_, put_together(entries));
    CHECK(open_voice(folder_.path(), &voice) == FTE_OK);
    CHECK(fte_voice_close(&voice) == FTE_OK);
  }

  void is_refused(const std::string& changed, const std::string& weights, const std::string& what) {
    fte_voice* voice = nullptr;
    folder_.write(changed, precision_, weights);
    const fte_status status = open_voice(folder_.path(), &voice);
    if (status != FTE_BAD_BUNDLE || !is_sentence(fte_last_error())) {
      std::fprintf(stderr, "%s, %s: %d, %s\n", precision_.c_str(), what.c_str(), status, fte_last_error());
    }
    CHECK(status == FTE_BAD_BUNDLE && !voice && is_sentence(fte_last_error()));
    ++refused;
  }

  void is_refused(const std::vector<Entry>& changed, const std::string& what) {
    is_refused(manifest, put_together(changed), what);
  }

  // What a stream gives that speaks with other weights: its first status that is not FTE_OK, all samples finite.
  fte_status speak(const std::vector<Entry>& changed) {
    folder_.write(manifest, precision_, put_together(changed));
    fte_voice* voice = nullptr;
    CHECK(open_voice(folder_.path(), &voice) == FTE_OK);
    fte_stream_options options;
    fte_stream_options_init(&options);
    options.max_frames = 20;
    options.stop_with_attention = 0;
    options.gate_threshold = 2.0F;
    const std::int64_t ids[] = {1, 5, 2};
    fte_stream* stream = nullptr;
    const float* samples = nullptr;
    std::size_t count = 0;
    CHECK(fte_stream_start(voice, ids, 3, &options, &stream) == FTE_OK);
    fte_status status;
    while ((status = fte_stream_next(stream, &samples, &count)) == FTE_OK) {
      CHECK(std::all_of(samples, samples + count, [](float sample) { return std::isfinite(sample); }));
    }
    CHECK(!samples && count == 0);
    CHECK(fte_stream_next(stream, &samples, &count) == status);  // it does not go on after an error
    CHECK(fte_stream_close(&stream) == FTE_OK && fte_voice_close(&voice) == FTE_OK);
    return status;
  }

  const std::string manifest;
  const std::vector<Entry> entries;
  int refused = 0;

 private:
  const std::string precision_;
  Folder folder_;
};

void other_sizes(Bundle& bundle) {
  for (const char* section : {"flowtron", "waveglow"}) {
    for (const std::string& key : keys_of(bundle.manifest, section)) {
      if (key == "dummy_speaker") continue;  // says which speaker is meant: no tensor depends on it
      const std::string now = value_of(bundle.manifest, section, key);
      std::vector<std::string> others = {now == "true" ? "false" : "true"};
      if (now != "true" && now != "false") {
        const int size = std::atoi(now.c_str());
        others.clear();
        for (int other : {size - 1, size + 1, 2 * size, size / 2, 0, -size, 1 << 20}) {
          if (other != size) others.push_back(std::to_string(other));
        }
      }
      for (const std::string& other : others) {
        bundle.is_refused(with_value(bundle.manifest, section, key, other), put_together(bundle.entries),
                          section + ("." + key) + " = " + other);
      }
    }
  }
  const std::string stride = with_value(bundle.manifest, "waveglow", "upsample_stride", "32");
  bundle.is_refused(with_value(stride, "audio", "hop", "32"), put_together(bundle.entries), "hop and stride");
}

void other_tensors(Bundle& bundle) {
  const auto each = [&](const char* what, const std::function<bool(std::vector<Entry>&, std::size_t)>& change) {
    for (std::size_t i = 0; i < bundle.entries.size(); ++i) {
      std::vector<Entry> changed = bundle.entries;
      if (change(changed, i)) bundle.is_refused(changed, what + (" " + bundle.entries[i].name));
    }
  };
  each("without", [](auto& e, std::size_t i) { return e.erase(e.begin() + static_cast<long>(i)), true; });
  each("renamed", [](auto& e, std::size_t i) { return e[i].name += "x", true; });
  each("one more beside", [](auto& e, std::size_t i) {
    e.push_back(e[i]);
    e.back().name = e[i].name + ".more";
    return true;
  });
  each("a row more in", [](auto& e, std::size_t i) {
    e[i].numbers += e[i].numbers.substr(0, e[i].numbers.size() / static_cast<std::size_t>(e[i].shape[0]));
    ++e[i].shape[0];
    return true;
  });
  each("a dimension more in", [](auto& e, std::size_t i) { return e[i].shape.push_back(1), true; });
  each("turned", [](auto& e, std::size_t i) {
    std::reverse(e[i].shape.begin(), e[i].shape.end());
    return e[i].shape.front() != e[i].shape.back();
  });
  for (const char* type : {"F32", "F16", "BF16", "I8"}) {
    each(type, [&](auto& e, std::size_t i) {
      // a layer that runs in fp16 beside int8 may have either
      const bool either = e[i].name.find(".attention_lstm.mel") != std::string::npos ||
                          e[i].name.find(".affine.weight") != std::string::npos;
      if (e[i].type == type || (either && (type == std::string("F32") || type == std::string("F16")))) return false;
      e[i].numbers.assign(e[i].numbers.size() / size_of_type(e[i].type) * size_of_type(type), '\0');
      e[i].type = type;
      return true;
    });
  }
}

void other_numbers(Bundle& bundle) {
  const float inf = std::numeric_limits<float>::infinity();
  for (std::size_t i = 0; i < bundle.entries.size(); ++i) {
    const std::string& type = bundle.entries[i].type;
    const std::size_t size = size_of_type(type), count = bundle.entries[i].numbers.size() / size;
    std::vector<std::string> wrong;
    if (type == "I8") wrong = {"\x80"};
    if (type == "F16") wrong = {std::string("\x00\x7c", 2), std::string("\x00\xfc", 2), std::string("\x01\x7e", 2)};
    if (type == "F32" || type == "BF16") {
      for (float value : {inf, -inf, std::nanf(""), 1e30F, -1e30F, 2e6F}) {
        std::string bytes(4, '\0');
        std::memcpy(bytes.data(), &value, 4);
        wrong.push_back(bytes.substr(4 - size));
      }
    }
    if (bundle.entries[i].name.find(".scale") != std::string::npos) {
      wrong.push_back(std::string(4, '\0'));
      wrong.push_back(std::string("\x00\x00\x80\xbf", 4));  // -1
    }
    for (std::size_t k = 0; k < wrong.size(); ++k) {
      const std::size_t place = k == 0 ? 0 : k == 1 ? count / 2 : count - 1;
      std::vector<Entry> changed = bundle.entries;
      changed[i].numbers.replace(place * size, size, wrong[k]);
      bundle.is_refused(changed, "a number of " + changed[i].name);
    }
  }
}

void other_places(Bundle& bundle) {
  for (std::size_t i = 0; i < bundle.entries.size(); ++i) {
    const auto change = [&](const char* what, const std::function<void(Entry&)>& to) {
      std::vector<Entry> changed = bundle.entries;
      to(changed[i]);
      bundle.is_refused(changed, what + (" " + changed[i].name));
    };
    if (i > 0) change("moved back", [](Entry& e) { e.shift = -1; });
    change("moved on", [](Entry& e) { e.shift = 1; });
    change("longer", [](Entry& e) { e.more = 1; });
    change("shorter", [](Entry& e) { e.more = -1; });
    if (i > 0) {
      change("at its neighbour's place",
             [&](Entry& e) { e.shift = -static_cast<long>(bundle.entries[i - 1].numbers.size()); });
    }
    std::vector<Entry> gap = bundle.entries;  // four bytes that belong to nobody
    for (std::size_t after = i; after < gap.size(); ++after) gap[after].shift = 4;
    bundle.is_refused(bundle.manifest, put_together(gap) + std::string(4, '\0'), "a gap before " + gap[i].name);
  }
  bundle.is_refused(bundle.manifest, put_together(bundle.entries) + "more", "something after the end");
}

// All of a tensor's numbers, or those from the first or to the last half.
void fill(Entry& entry, float value, std::size_t first, std::size_t last) {
  for (std::size_t i = first; i < last; ++i) std::memcpy(entry.numbers.data() + 4 * i, &value, 4);
}

// Weights that may each be, and overflow together.
void what_overflows_is_an_error(Bundle& bundle) {
  CHECK(bundle.speak(bundle.entries) == FTE_END);
  for (const char* name : {"flows.0.affine.bias", "flows.1.affine.bias", "vocoder.flows.0.end.bias"}) {
    std::vector<Entry> changed = bundle.entries;
    for (Entry& entry : changed) {
      if (entry.name != name) continue;
      const std::size_t count = entry.numbers.size() / 4, half = count / 2;
      fill(entry, 1e6F, 0, count);
      // log s, the first half in the decoder and the second in the vocoder: e to the million
      std::string(name).rfind("vocoder", 0) == 0 ? fill(entry, -1e6F, half, count) : fill(entry, -1e6F, 0, half);
    }
    CHECK(bundle.speak(changed) == FTE_BAD_BUNDLE);
  }
}

}  // namespace

int main(int argc, char** argv) {
  CHECK(argc == 2);
  for (const char* precision : {"int8", "fp32", "fp16", "bf16"}) {
    Bundle bundle(argv[1], precision);
    bundle.opens();
    other_numbers(bundle);
    if (std::string(precision) == "int8") {  // that these fit is judged before the numbers are read
      other_sizes(bundle);
      other_tensors(bundle);
      other_places(bundle);
    }
    what_overflows_is_an_error(bundle);
    std::printf("%s: %d bundles refused\n", precision, bundle.refused);
  }
  return 0;
}
