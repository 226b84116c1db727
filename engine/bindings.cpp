// The engine for Python: `fte._native`. No logic: arrays are checked against each other and handed on, the GIL
// released.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cpu.h"
#include "decoder.h"
#include "encoder.h"
#include "fault.h"
#include "kernels.h"
#include "range.h"
#include "team.h"
#include "vocoder.h"
#include "voice.h"

namespace nb = nanobind;

namespace {

template <class T>
using In = nb::ndarray<const T, nb::c_contig, nb::device::cpu>;
template <class T>
using Out = nb::ndarray<T, nb::c_contig, nb::device::cpu>;

void need(bool fits, const char* what) {
  if (!fits) throw fte::bad_argument(std::string(what) + " does not have the shape or the values that it should have");
}

template <class Array>
bool has_shape(const Array& array, std::initializer_list<std::size_t> shape) {
  if (array.ndim() != shape.size()) return false;
  std::size_t i = 0;
  for (std::size_t length : shape) {
    if (array.shape(i++) != length) return false;
  }
  return true;
}

bool is_finite(const In<float>& array) { return fte::all_finite(array.data(), array.size()); }

std::size_t at(int i) { return static_cast<std::size_t>(i); }

// A voice and the threads that work for it.
class Engine {
 public:
  Engine(const std::string& folder, const std::string& precision, int threads, const std::string& instructions)
      : kernels_(fte::kernels_for(chosen(instructions))),
        voice_(folder, precision, false),
        team_(checked_threads(threads)) {}

  fte::Voice& voice() { return voice_; }
  fte::Team& team() { return team_; }
  const fte::Kernels& kernels() const { return kernels_; }

  void encode(In<std::int64_t> ids, int speaker, Out<float> memory) {
    const fte::EncoderWeights& e = voice_.encoder();
    const std::size_t count = ids.ndim() == 1 ? ids.shape(0) : 0;
    need(count > 0 && count < (1 << 20), "ids");
    need(std::all_of(ids.data(), ids.data() + count, [&](std::int64_t id) { return id >= 0 && id < e.symbols; }),
         "ids");
    need(speaker >= 0 && speaker < e.speakers, "speaker");
    need(has_shape(memory, {count, at(e.memory())}), "memory");
    fte::encode(e, kernels_, team_, ids.data(), static_cast<int>(count), speaker, memory.data());
  }

  void project(int flow, bool keys, In<float> memory, Out<float> out) {
    const fte::FlowWeights& f = voice_.flow(checked(flow));
    const std::size_t count = memory.ndim() == 2 ? memory.shape(0) : 0;
    need(has_shape(memory, {count, at(f.sizes.memory)}) && count > 0 && count < (1 << 20), "memory");
    need(has_shape(out, {count, at(f.sizes.attention)}), "out");
    fte::project(keys ? f.key : f.value, kernels_, team_, memory.data(), static_cast<int>(count), out.data());
  }

  void vocode(In<float> mel, In<float> noise, Out<float> audio) {
    const fte::VocoderWeights& v = voice_.vocoder();
    const std::size_t frames = mel.ndim() == 2 ? mel.shape(0) : 0;
    need(has_shape(mel, {frames, at(v.mels)}) && frames > 0 && frames < (1 << 20), "mel");
    need(has_shape(noise, {frames * at(v.phases), at(v.group)}), "noise");
    need(is_finite(mel), "mel");
    need(is_finite(noise), "noise");
    need(has_shape(audio, {frames * at(v.hop())}), "audio");
    fte::vocode(v, kernels_, team_, mel.data(), static_cast<int>(frames), noise.data(), audio.data());
  }

  int checked(int flow) const {
    need(flow >= 0 && flow < voice_.flowtron().flows, "flow");
    return flow;
  }

 private:
  static int checked_threads(int threads) {
    need(threads >= 1 && threads <= fte::kMostThreads, "threads");
    return threads;
  }

  static fte::Instructions chosen(const std::string& name) {
    if (name.empty()) return fte::best_instructions();
    for (fte::Instructions each :
         {fte::Instructions::portable, fte::Instructions::avx2, fte::Instructions::avx512vnni}) {
      if (name == fte::name_of(each) && fte::has(each)) return each;
    }
    throw fte::bad_argument("this CPU has no instructions called " + fte::shown(name, 40));
  }

  const fte::Kernels& kernels_;  // first: whether this CPU has the instructions is told whatever the voice is
  fte::Voice voice_;
  fte::Team team_;
};

class Flow {
 public:
  Flow(Engine& engine, int flow, std::optional<In<float>> keys, In<float> values, std::optional<In<float>> memory,
       In<std::int32_t> texts, In<std::int32_t> frames, In<float> temperatures, In<float> thresholds,
       std::optional<In<std::uint8_t>> imposed)
      : sizes_(engine.voice().flow(engine.checked(flow)).sizes), has_imposed_(imposed.has_value()) {
    fte::FlowInputs inputs;
    need(values.ndim() == 3 && values.shape(0) > 0 && values.shape(0) <= fte::kMostBatch, "values");
    need(values.shape(1) > 0 && values.shape(1) < (1 << 20), "values");
    batch_ = values.shape(0), symbols_ = values.shape(1);
    need(has_shape(values, {batch_, symbols_, at(sizes_.attention)}), "values");
    if (sizes_.filters) {
      need(memory && has_shape(*memory, {batch_, symbols_, at(sizes_.memory)}), "memory");
      inputs.memory = memory->data();
    } else {
      need(keys && has_shape(*keys, {batch_, symbols_, at(sizes_.attention)}), "keys");
      inputs.keys = keys->data();
    }
    const auto of_batch = [&](const auto& array) { return has_shape(array, {batch_}); };
    need(of_batch(texts) &&
             std::all_of(texts.data(), texts.data() + batch_, [&](int n) { return n > 0 && at(n) <= symbols_; }),
         "texts");
    need(of_batch(frames), "frames");
    need(of_batch(temperatures), "temperatures");
    need(of_batch(thresholds), "thresholds");
    need(!imposed || of_batch(*imposed), "imposed");
    inputs.batch = static_cast<int>(batch_);
    inputs.symbols = static_cast<int>(symbols_);
    inputs.values = values.data();
    inputs.texts = texts.data();
    inputs.frames = frames.data();
    inputs.temperatures = temperatures.data();
    inputs.thresholds = thresholds.data();
    inputs.imposed = imposed ? imposed->data() : nullptr;
    run_ = std::make_unique<fte::FlowRun>(engine.voice().flow(flow), engine.kernels(), engine.team(), inputs);
  }

  void run(In<float> z, std::optional<In<float>> prior, std::optional<In<float>> imposed, Out<float> mel,
           Out<float> attention, std::optional<Out<float>> gate) {
    const std::size_t count = z.ndim() == 3 ? z.shape(0) : 0;
    need(count > 0 && count <= 4096 && has_shape(z, {count, batch_, at(sizes_.mels)}) && is_finite(z), "z");
    need(!prior || has_shape(*prior, {count, batch_, symbols_}), "prior");
    need(imposed.has_value() == has_imposed_ && (!imposed || has_shape(*imposed, {count, batch_, symbols_})),
         "imposed");
    need(has_shape(mel, {count, batch_, at(sizes_.mels)}), "mel");
    need(has_shape(attention, {count, batch_, symbols_}), "attention");
    need(gate.has_value() == sizes_.gate && (!gate || has_shape(*gate, {count, batch_})), "gate");
    fte::FlowFrames frames;
    frames.count = static_cast<int>(count);
    frames.z = z.data();
    frames.prior = prior ? prior->data() : nullptr;
    frames.imposed = imposed ? imposed->data() : nullptr;
    frames.mel = mel.data();
    frames.attention = attention.data();
    frames.gate = gate ? gate->data() : nullptr;
    const nb::gil_scoped_release released;
    run_->run(frames);
  }

 private:
  const fte::FlowSizes sizes_;
  const bool has_imposed_;
  std::size_t batch_ = 0, symbols_ = 0;
  std::unique_ptr<fte::FlowRun> run_;
};

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "The native engine; fte.backends.native is its user.";
  nb::register_exception_translator([](const std::exception_ptr& thrown, void*) {
    try {
      std::rethrow_exception(thrown);
    } catch (const fte::Fault& fault) {
      PyErr_SetString(fault.kind() == fte::Kind::argument ? PyExc_ValueError : PyExc_RuntimeError, fault.what());
    }
  });
  m.def("instructions", [] { return std::string(fte::name_of(fte::best_instructions())); });
  m.attr("most_batch") = fte::kMostBatch;
  m.attr("most_threads") = fte::kMostThreads;
  // No conversions: a copy of an array that is written to would be written to in vain.
  using released = nb::call_guard<nb::gil_scoped_release>;
  nb::class_<Engine>(m, "Engine")
      .def(nb::init<const std::string&, const std::string&, int, const std::string&>(), nb::arg("folder"),
           nb::arg("precision"), nb::arg("threads"), nb::arg("instructions") = "", released())
      .def("encode", &Engine::encode, nb::arg("ids").noconvert(), nb::arg("speaker"), nb::arg("memory").noconvert(),
           released())
      .def("project", &Engine::project, nb::arg("flow"), nb::arg("keys"), nb::arg("memory").noconvert(),
           nb::arg("out").noconvert(), released())
      .def("vocode", &Engine::vocode, nb::arg("mel").noconvert(), nb::arg("noise").noconvert(),
           nb::arg("audio").noconvert(), released());
  nb::class_<Flow>(m, "Flow")
      .def(nb::init<Engine&, int, std::optional<In<float>>, In<float>, std::optional<In<float>>, In<std::int32_t>,
                    In<std::int32_t>, In<float>, In<float>, std::optional<In<std::uint8_t>>>(),
           nb::arg("engine"), nb::arg("flow"), nb::arg("keys").noconvert().none(), nb::arg("values").noconvert(),
           nb::arg("memory").noconvert().none(), nb::arg("texts").noconvert(), nb::arg("frames").noconvert(),
           nb::arg("temperatures").noconvert(), nb::arg("thresholds").noconvert(),
           nb::arg("imposed").noconvert().none(), nb::keep_alive<1, 2>())
      .def("run", &Flow::run, nb::arg("z").noconvert(), nb::arg("prior").noconvert().none(),
           nb::arg("imposed").noconvert().none(), nb::arg("mel").noconvert(), nb::arg("attention").noconvert(),
           nb::arg("gate").noconvert().none());
}
