/* libfte: Flowtron and WaveGlow for products that embed speech. Symbol ids go in, samples come out.
 *
 * A voice is opened once from a voice bundle (`fte export` writes it) and speaks any number of streams at once. A
 * stream is pulled: each call of fte_stream_next computes and gives out the next samples, the first of them long before
 * the utterance is done. What a stream says depends on its own options alone, never on other streams, and equals what
 * the Python runtime says with the backend "native" for the same ids, seed and options, up to its post-processing.
 *
 * Threads: a voice may be used from any number of threads. A stream belongs to one thread at a time, but for
 * fte_stream_cancel, which any thread may call. Nothing is global but the text of the last error, one for each thread.
 * A voice has threads of its own. In the child of a fork it starts others when it first speaks there; streams that
 * another thread of the parent was using are only good to be closed there.
 */
#ifndef FTE_FTE_H
#define FTE_FTE_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define FTE_API
#else
#define FTE_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fte_voice fte_voice;
typedef struct fte_stream fte_stream;

typedef enum fte_status {
  FTE_OK = 0,
  FTE_END = 1,              /* the stream has given out everything */
  FTE_CANCELLED = 2,        /* fte_stream_cancel was called */
  FTE_INVALID_ARGUMENT = 3, /* a null pointer, a closed handle, or a value outside its range */
  FTE_BAD_BUNDLE = 4, /* the bundle is missing, damaged, lacks what was asked for, or computes no finite samples */
  FTE_OUT_OF_MEMORY = 5,
  FTE_INTERNAL = 6 /* a fault of the library: please report it */
} fte_status;

/* What went wrong in the last call of this thread that did not return FTE_OK or FTE_END, in a sentence: UTF-8 on one
 * line, without control characters. Never null; valid until this thread's next call. */
FTE_API const char* fte_last_error(void);

/* "0.1.0" */
FTE_API const char* fte_version(void);

/* --- voices --- */

typedef struct fte_voice_options {
  uint32_t struct_size;  /* set by fte_voice_options_init; tells versions apart, as later ones may append fields */
  int32_t threads;       /* that compute, 1 to 256; 0 for one a core */
  const char* precision; /* "int8", "fp32", "fp16", "bf16"; null for int8 where the bundle has it */
  int32_t check_hash;    /* whether the weights must have the SHA-256 that the manifest names; 1 by default */
} fte_voice_options;

typedef struct fte_voice_info {
  int32_t sample_rate; /* Hz */
  int32_t hop;         /* samples in a mel frame */
  int32_t n_symbols;   /* ids are 0 to n_symbols - 1 */
  int32_t n_speakers;
  int32_t n_mels; /* channels of z */
} fte_voice_info;

FTE_API void fte_voice_options_init(fte_voice_options* options);

/* Open the bundle in a folder; options may be null. On success *voice is a handle, otherwise null. */
FTE_API fte_status fte_voice_open(const char* folder, const fte_voice_options* options, fte_voice** voice);

FTE_API fte_status fte_voice_get_info(const fte_voice* voice, fte_voice_info* info);

/* Close a voice and make the handle null. Streams that are open keep what they need of it. */
FTE_API fte_status fte_voice_close(fte_voice** voice);

/* --- streams --- */

typedef struct fte_stream_options {
  uint32_t struct_size;        /* set by fte_stream_options_init */
  int32_t speaker;             /* id */
  uint64_t seed;               /* of the noise, below 2^63 */
  uint64_t request;            /* tells apart the noise of requests that share a seed, below 2^63 */
  float sigma;                 /* standard deviation of z, 0 to 10; 0.5 by default */
  float vocoder_sigma;         /* of the vocoder's noise, 0 to 10; 0.8 by default */
  float gate_threshold;        /* the utterance ends at the first frame whose gate exceeds it; 0.5 by default */
  float temperature;           /* divides the attention's scores, above 0; 1 by default */
  int32_t stop_with_attention; /* whether it also ends when the text has been read; 1 by default */
  int32_t max_frames;          /* ceiling, 1 to 10000; 0 for 100 + 12 a symbol */
  const float* style;          /* mean of z, (style_frames, n_mels), -100 to 100, or null for zeros; copied */
  int32_t style_frames;        /* rows, which are repeated one after the other to as many frames as there are */
  const float* z;      /* z itself in place of style and sigma, (z_frames, n_mels), -100 to 100, or null; copied */
  int32_t z_frames;    /* which is then the ceiling */
  int32_t first_chunk; /* mel frames of the first chunk, the next ones double up to `chunk`; 24 by default */
  int32_t chunk;       /* 237 by default */
  int32_t overlap;     /* mel frames of context on each side of a chunk; 8 by default */
} fte_stream_options;

FTE_API void fte_stream_options_init(fte_stream_options* options);

/* Begin to speak `count` (1 to 1000) symbol ids; options may be null. Nothing is computed yet. */
FTE_API fte_status fte_stream_start(fte_voice* voice, const int64_t* ids, size_t count,
                                    const fte_stream_options* options, fte_stream** stream);

/* Compute the next samples (from -1 to 1, mono; loud ones may lie outside, but all are finite). FTE_OK: *samples points
 * to *count of them, valid until the next call for this stream. FTE_END: there are no more. */
FTE_API fte_status fte_stream_next(fte_stream* stream, const float** samples, size_t* count);

/* Let fte_stream_next return FTE_CANCELLED within some ten milliseconds while it decodes, or after the chunk that it
 * vocodes. From any thread. */
FTE_API fte_status fte_stream_cancel(fte_stream* stream);

/* Close a stream and make the handle null. */
FTE_API fte_status fte_stream_close(fte_stream** stream);

#ifdef __cplusplus
}
#endif

#endif /* FTE_FTE_H */
