// CANN's runtime as far as torch_npu needs it, on a machine with no NPU. Device memory is host memory, copies happen at once, and
// computing time is one device clock: rig_occupy(ms) keeps the device busy that much longer, and whatever waits for the device
// sleeps until it is idle. rig_launch() counts a launch, and lets the host's part of it pass. With rig_virtual_clock() time stands still
// but for the host's part of launches and for the device's work: waiting moves it on. Functions that torch_npu links against and that
// are not here return 0 (build.py writes them).
//
// A graph is a number here: npu_arithmetic.py records the operators of a capture under it, and plays them when the graph is executed.
// What CANN refuses during a capture is refused with its numbers.
//
// Knobs, read at every use: NPU_RIG_CARDS, NPU_RIG_MEMORY (bytes of a card), NPU_RIG_NAME, NPU_RIG_HOST_MS (of one launch),
// NPU_RIG_GRAPHS (most graphs at once), NPU_RIG_DEAD_CARD (the number of a card that does not start).
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int aclError;
enum {
  INVALID_DEVICE = 107001, INVALID_CAPTURE = 107025, STREAM_CAPTURED = 107027, NOT_DURING_CAPTURE = 107030,
  OUT_OF_MEMORY = 207001, OUT_OF_STREAMS = 207008, MODEL_FAILED = 507011, CARD_LOST = 507015, NO_SUCH_OPERATOR = 500002,
};

static const char *knob(const char *name, const char *otherwise) {
  const char *value = getenv(name);
  return value && *value ? value : otherwise;
}
static int cards(void) { return atoi(knob("NPU_RIG_CARDS", "1")); }
static size_t memory(void) { return strtoull(knob("NPU_RIG_MEMORY", "34359738368"), 0, 10); }

// ---- the device clock, in milliseconds
static double busy_until;
static int waiting_is_off;

static double virtual_time = -1;

static double now(void) {
  if (virtual_time >= 0) return virtual_time;
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
}
static double end_of_work(void) { return busy_until > now() ? busy_until : now(); }
static aclError wait_until(double moment) {
  if (virtual_time >= 0 && !waiting_is_off && moment > virtual_time) virtual_time = moment;
  for (double left; !waiting_is_off && (left = moment - now()) > 0;) {
    struct timespec t = {(time_t)(left / 1e3), (long)(left * 1e6) % 1000000000L};
    nanosleep(&t, 0);
  }
  return 0;
}
void rig_virtual_clock(int on) { busy_until = 0; virtual_time = on ? 0 : -1; }
double rig_now(void) { return now(); }
void rig_occupy(double ms) { busy_until = end_of_work() + ms; }
static long launches;
long rig_launches(void) { return launches; }
void rig_launch(void) {
  double ms = atof(knob("NPU_RIG_HOST_MS", "0"));
  launches++;
  if (virtual_time >= 0) virtual_time += ms;
  else if (ms > 0) nanosleep(&(struct timespec){(time_t)(ms / 1e3), (long)(ms * 1e6) % 1000000000L}, 0);
}
void rig_waiting(int on) { waiting_is_off = !on; }  // off: torch_npu's own queue can be emptied without waiting for the modelled time

// ---- graphs: one capture at a time
static struct { void *stream; uintptr_t model; int status; } capture;
static uintptr_t models;
static int alive;
static int (*play)(uintptr_t);

int rig_graphs(void) { return alive; }
uintptr_t rig_capturing(void) { return capture.status == 1 ? capture.model : 0; }
void rig_on_replay(int (*callback)(uintptr_t)) { play = callback; }
static aclError unless_capturing(aclError number) {
  if (!capture.status) return 0;
  capture.status = 2;
  return number;
}
static aclError unless_captured(void *stream) { return stream == capture.stream ? unless_capturing(STREAM_CAPTURED) : 0; }

aclError aclmdlRICaptureBegin(void *stream, int mode) {
  (void)mode;
  if (alive >= atoi(knob("NPU_RIG_GRAPHS", "1000"))) return OUT_OF_STREAMS;
  capture.stream = stream, capture.model = ++models * 16, capture.status = 1;
  return 0;
}
aclError aclmdlRICaptureGetInfo(void *stream, int *status, void **model) {
  int own = capture.status && stream == capture.stream;
  *status = own ? capture.status : 0;
  if (model) *model = own ? (void *)capture.model : 0;
  return 0;
}
aclError aclmdlRICaptureEnd(void *stream, void **model) {
  int status = capture.status;
  (void)stream;
  capture.status = 0, capture.stream = 0;
  if (status != 1) return INVALID_CAPTURE;
  alive++;
  *model = (void *)capture.model;
  return 0;
}
aclError aclmdlRIExecuteAsync(void *model, void *stream) {
  (void)stream;
  rig_launch();
  return play && !play((uintptr_t)model) ? 0 : MODEL_FAILED;
}
aclError aclmdlRIDestroy(void *model) { (void)model; alive--; return 0; }

// ---- cards
static __thread int current;

const char *aclrtGetSocName(void) { return knob("NPU_RIG_NAME", "Ascend910B4"); }
const char *aclGetRecentErrMsg(void) { return ""; }
aclError aclrtGetDeviceCount(uint32_t *count) { *count = cards(); return 0; }
aclError aclrtGetDevice(int32_t *device) { *device = current; return 0; }
aclError aclrtGetCurrentContext(void **context) { *context = (void *)(uintptr_t)(0x1000 + current); return 0; }
aclError aclrtSetDevice(int32_t device) {
  if (device < 0 || device >= cards()) return INVALID_DEVICE;
  if (device == atoi(knob("NPU_RIG_DEAD_CARD", "-1"))) return CARD_LOST;
  current = device;
  return 0;
}
aclError aclrtGetPrimaryCtxState(int32_t device, uint32_t *flags, int32_t *active) {
  (void)device;
  if (flags) *flags = 0;
  *active = 1;
  return 0;
}
aclError aclGetDeviceCapability(uint32_t device, int what, int64_t *value) {
  static const int64_t known[] = {20, 40, 201326592};  // cube cores, vector cores, L2 bytes of a 910B4
  (void)device;
  *value = what >= 0 && what < 3 ? known[what] : 0;
  return 0;
}
aclError aclrtDeviceCanAccessPeer(int32_t *can, int32_t one, int32_t other) { (void)one, (void)other; *can = 0; return 0; }

// ---- memory of one card; every block is remembered so that freeing gives its bytes back
struct block { void *at; size_t bytes; struct block *next; };
static struct block *blocks;
static size_t used;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static aclError allocate(void **at, size_t bytes) {
  aclError result = OUT_OF_MEMORY;
  *at = 0;
  pthread_mutex_lock(&lock);
  if (used + bytes <= memory() && !posix_memalign(at, 512, bytes ? bytes : 512)) {
    struct block *block = malloc(sizeof *block);
    *block = (struct block){*at, bytes, blocks};
    blocks = block;
    used += bytes;
    result = 0;
  }
  pthread_mutex_unlock(&lock);
  return result;
}
aclError aclrtMalloc(void **at, size_t bytes, int policy) { (void)policy; return allocate(at, bytes); }
aclError aclrtMallocAlign32(void **at, size_t bytes, int policy) { (void)policy; return allocate(at, bytes); }
aclError aclrtFree(void *at) {
  pthread_mutex_lock(&lock);
  for (struct block **link = &blocks; *link; link = &(*link)->next)
    if ((*link)->at == at) {
      struct block *block = *link;
      *link = block->next;
      used -= block->bytes;
      free(block->at);
      free(block);
      break;
    }
  pthread_mutex_unlock(&lock);
  return 0;
}
aclError aclrtMallocHost(void **at, size_t bytes) { return posix_memalign(at, 512, bytes ? bytes : 512) ? OUT_OF_MEMORY : 0; }
aclError aclrtFreeHost(void *at) { free(at); return 0; }
aclError aclrtGetMemInfo(int kind, size_t *left, size_t *total) {
  (void)kind;
  *total = memory();
  *left = *total > used ? *total - used : 0;
  return 0;
}

// ---- copies
aclError aclrtMemcpy(void *to, size_t room, const void *from, size_t bytes, int kind) {
  enum { DEVICE_TO_HOST = 2 };
  (void)room;
  aclError refused = unless_capturing(NOT_DURING_CAPTURE);
  if (refused) return refused;
  if (kind == DEVICE_TO_HOST) wait_until(busy_until);
  memmove(to, from, bytes);
  return 0;
}
aclError aclrtMemcpyAsync(void *to, size_t room, const void *from, size_t bytes, int kind, void *stream) {
  (void)room, (void)kind, (void)stream;
  memmove(to, from, bytes);
  return 0;
}
aclError aclrtMemset(void *to, size_t room, int32_t value, size_t bytes) { (void)room; memset(to, value, bytes); return 0; }
aclError aclrtMemsetAsync(void *to, size_t room, int32_t value, size_t bytes, void *stream) {
  (void)stream;
  return aclrtMemset(to, room, value, bytes);
}

// ---- streams and events
static aclError new_stream(void **stream) { static uintptr_t last = 0x10000; *stream = (void *)(last += 16); return 0; }
aclError aclrtCreateStream(void **stream) { return new_stream(stream); }
aclError aclrtCreateStreamWithConfig(void **stream, uint32_t priority, uint32_t flag) { (void)priority, (void)flag; return new_stream(stream); }
aclError aclrtSynchronizeStream(void *stream) { aclError no = unless_captured(stream); return no ? no : wait_until(busy_until); }
aclError aclrtSynchronizeStreamWithTimeout(void *stream, int32_t ms) { (void)ms; return aclrtSynchronizeStream(stream); }
aclError aclrtSynchronizeDevice(void) { aclError no = unless_capturing(NOT_DURING_CAPTURE); return no ? no : wait_until(busy_until); }
aclError aclrtSynchronizeDeviceWithTimeout(int32_t ms) { (void)ms; return aclrtSynchronizeDevice(); }
aclError aclrtStreamQuery(void *stream, int *status) { (void)stream; *status = 0; return 0; }

struct event { double reached; };
static aclError new_event(void **event) { *event = calloc(1, sizeof(struct event)); return 0; }
aclError aclrtCreateEvent(void **event) { return new_event(event); }
aclError aclrtCreateEventWithFlag(void **event, uint32_t flag) { (void)flag; return new_event(event); }
aclError aclrtCreateEventExWithFlag(void **event, uint32_t flag) { (void)flag; return new_event(event); }
aclError aclrtDestroyEvent(void *event) { free(event); return 0; }
aclError aclrtRecordEvent(struct event *event, void *stream) { (void)stream; event->reached = end_of_work(); return 0; }
aclError aclrtSynchronizeEvent(struct event *event) { return wait_until(event->reached); }
aclError aclrtSynchronizeEventWithTimeout(struct event *event, int32_t ms) { (void)ms; return wait_until(event->reached); }
aclError aclrtQueryEventStatus(struct event *event, int *status) { *status = event->reached <= now(); return 0; }
aclError aclrtQueryEventWaitStatus(struct event *event, int *status) { (void)event; *status = 0; return 0; }
aclError aclrtEventElapsedTime(float *ms, struct event *from, struct event *to) { *ms = (float)(to->reached - from->reached); return 0; }

// ---- options
size_t aclGetCompileoptSize(int option) { (void)option; return 16; }
aclError aclGetCompileopt(int option, char *value, size_t bytes) { (void)option; if (bytes) strncpy(value, "0", bytes); return 0; }
aclError aclSetCompileopt(int option, const char *value) { (void)option, (void)value; return 0; }
aclError aclrtGetSysParamOpt(int option, int64_t *value) { (void)option; *value = 0; return 0; }
aclError aclrtCtxGetSysParamOpt(int option, int64_t *value) { (void)option; *value = 0; return 0; }

// ---- looked up by name when they are needed, so the linker does not know of them
#define SUCCEEDS(name) aclError name(void) { return 0; }
SUCCEEDS(aclInit)
SUCCEEDS(aclmdlRICaptureThreadExchangeMode)
SUCCEEDS(aclmdlRIDebugPrint)
SUCCEEDS(aclmdlRIDebugJsonPrint)
SUCCEEDS(aclFinalize)
SUCCEEDS(aclrtResetDevice)
SUCCEEDS(aclrtSetCurrentContext)
SUCCEEDS(aclrtSetDeviceSatMode)
SUCCEEDS(aclrtSetOpExecuteTimeOut)
SUCCEEDS(aclrtSetOpWaitTimeout)
SUCCEEDS(aclrtPointerGetAttributes)
SUCCEEDS(aclrtSetSysParamOpt)
SUCCEEDS(aclrtCtxSetSysParamOpt)
SUCCEEDS(aclrtDestroyStream)
SUCCEEDS(aclrtDestroyStreamForce)
SUCCEEDS(aclrtStreamWaitEvent)
SUCCEEDS(aclrtResetEvent)
SUCCEEDS(aclrtSetStreamOverflowSwitch)
SUCCEEDS(aclrtGetStreamOverflowSwitch)

// ---- operators: none is here. An operator that gets this far was missed by npu_arithmetic.py, and must not leave memory as it was.
aclError aclopCompileAndExecute(void) { return NO_SUCH_OPERATOR; }
