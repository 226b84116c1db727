/* Speak symbol ids into a WAV file, writing each chunk as soon as it is there.
 *
 *   speak VOICE OUT.wav ID [ID ...]
 *
 * `fte text --json "Hello."` has the ids of a text. */
#include <stdio.h>
#include <stdlib.h>

#include "fte/fte.h"

enum { kMostIds = 1000 };

static int fail(const char* what) {
  fprintf(stderr, "speak: %s\n", what);
  return 1;
}

static void put(FILE* file, unsigned long value, int bytes) {
  for (int i = 0; i < bytes; ++i) fputc((int)(value >> 8 * i & 255), file);
}

/* A header for 16-bit mono samples; sizes are put right once they are known. */
static void put_header(FILE* file, unsigned long rate, unsigned long bytes) {
  rewind(file);
  fputs("RIFF", file);
  put(file, 36 + bytes, 4);
  fputs("WAVEfmt ", file);
  put(file, 16, 4);
  put(file, 1, 2);
  put(file, 1, 2);
  put(file, rate, 4);
  put(file, 2 * rate, 4);
  put(file, 2, 2);
  put(file, 16, 2);
  fputs("data", file);
  put(file, bytes, 4);
}

static unsigned long put_samples(FILE* file, const float* samples, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const float loud = samples[i] > 1 ? 1 : samples[i] < -1 ? -1 : samples[i];
    put(file, (unsigned long)(long)(loud * 32767), 2);
  }
  return 2 * (unsigned long)count;
}

static int speak(fte_voice* voice, const int64_t* ids, size_t count, FILE* file) {
  fte_voice_info info;
  fte_stream* stream = NULL;
  const float* samples = NULL;
  size_t some = 0;
  unsigned long bytes = 0;
  fte_status status = fte_voice_get_info(voice, &info);
  if (status == FTE_OK) status = fte_stream_start(voice, ids, count, NULL, &stream);
  if (status != FTE_OK) return fail(fte_last_error());
  put_header(file, (unsigned long)info.sample_rate, 0);
  while ((status = fte_stream_next(stream, &samples, &some)) == FTE_OK) bytes += put_samples(file, samples, some);
  if (status != FTE_END) return fte_stream_close(&stream), fail(fte_last_error());
  put_header(file, (unsigned long)info.sample_rate, bytes);
  printf("%.2f s of speech\n", (double)bytes / 2 / info.sample_rate);
  return fte_stream_close(&stream);
}

int main(int argc, char** argv) {
  int64_t ids[kMostIds];
  fte_voice* voice = NULL;
  if (argc < 4 || argc - 3 > kMostIds) return fail("usage: speak VOICE OUT.wav ID [ID ...]");
  for (int i = 3; i < argc; ++i) ids[i - 3] = strtoll(argv[i], NULL, 10);
  if (fte_voice_open(argv[1], NULL, &voice) != FTE_OK) return fail(fte_last_error());
  FILE* file = fopen(argv[2], "wb");
  const int failed = file ? speak(voice, ids, (size_t)(argc - 3), file) : fail("cannot write the file");
  const int unwritten = file && fclose(file) != 0;
  fte_voice_close(&voice);
  return failed || unwritten;
}
