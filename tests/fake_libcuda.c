/* A libcuda for tests without a GPU: device memory is malloc memory, a stream is a queue that runs only when something waits for it.
 *
 * It checks what the real driver checks (and what the real driver leaves undefined): contexts, handles, addresses, sizes, alignment,
 * capture states, launch limits.  Page-locked copies read and write host memory when the queue runs (a fault, if it was given back before),
 * pageable ones as cuda.h's text on synchronisation says.  Compiled with -DHAVE_CUDA_H -D__CUDA_API_VERSION_INTERNAL the C compiler compares every definition with cuda.h.
 *
 * FAKE_CUDA (read by cuInit and fake_reset): "devices=2 version=13000 capability=90 memory=1000000 init=100 fail=cuMemAlloc_v2:2", where
 * fail makes each call of that entry point return that code.  fake_fail(name, code, times) does so later; fake_slow(name, microseconds) makes a call last; fake_calls(name) counts
 * calls; fake_live(kind) counts what is alive; fake_shutdown() is the end of the driver.  Kernels are those of fake_cuda.ptx, and, after
 * fake_kernels(run, memory, n), any: run(ptx, grid, block, shared, arguments) does their work, on device memory taken from `memory`.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef HAVE_CUDA_H
#include <cuda.h>
#pragma GCC diagnostic ignored "-Wenum-conversion"  /* the codes below are plain ints */
#else
typedef int CUresult, CUdevice, CUdevice_attribute, CUfunction_attribute, CUjit_option, CUjitInputType, CUstreamCaptureMode,
    CUpointer_attribute;
typedef unsigned long long CUdeviceptr, cuuint64_t;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;
typedef struct CUlinkState_st *CUlinkState;
typedef struct { char bytes[16]; } CUuuid;
#define CUDAAPI
#endif
#define API __attribute__((visibility("default"))) CUresult CUDAAPI
#define SAY __attribute__((visibility("default")))

enum { OK, INVALID_VALUE, NO_MEMORY, NOT_INITIALIZED, DEINITIALIZED, NO_DEVICE = 100, INVALID_DEVICE, INVALID_IMAGE = 200,
       INVALID_CONTEXT, INVALID_PTX = 218, INVALID_HANDLE = 400, ILLEGAL_STATE, NOT_FOUND = 500, NOT_READY = 600, ILLEGAL_ADDRESS = 700,
       PEER_ENABLED = 704, MISALIGNED = 716, LAUNCH_FAILED = 719, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED, CAPTURE_IMPLICIT = 906,
       CAPTURE_WRONG_THREAD = 908 };
#ifdef HAVE_CUDA_H
#define SAME(a, b) _Static_assert((int)(a) == (int)(b), #a)
SAME(INVALID_VALUE, CUDA_ERROR_INVALID_VALUE); SAME(NO_MEMORY, CUDA_ERROR_OUT_OF_MEMORY); SAME(NO_DEVICE, CUDA_ERROR_NO_DEVICE);
SAME(NOT_INITIALIZED, CUDA_ERROR_NOT_INITIALIZED); SAME(DEINITIALIZED, CUDA_ERROR_DEINITIALIZED);
SAME(INVALID_DEVICE, CUDA_ERROR_INVALID_DEVICE); SAME(INVALID_IMAGE, CUDA_ERROR_INVALID_IMAGE);
SAME(INVALID_CONTEXT, CUDA_ERROR_INVALID_CONTEXT); SAME(INVALID_PTX, CUDA_ERROR_INVALID_PTX); SAME(NOT_FOUND, CUDA_ERROR_NOT_FOUND);
SAME(INVALID_HANDLE, CUDA_ERROR_INVALID_HANDLE); SAME(ILLEGAL_STATE, CUDA_ERROR_ILLEGAL_STATE); SAME(NOT_READY, CUDA_ERROR_NOT_READY);
SAME(ILLEGAL_ADDRESS, CUDA_ERROR_ILLEGAL_ADDRESS); SAME(MISALIGNED, CUDA_ERROR_MISALIGNED_ADDRESS); SAME(LAUNCH_FAILED, CUDA_ERROR_LAUNCH_FAILED);
SAME(CAPTURE_UNSUPPORTED, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED); SAME(CAPTURE_INVALIDATED, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
SAME(CAPTURE_IMPLICIT, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
SAME(PEER_ENABLED, CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
SAME(CAPTURE_WRONG_THREAD, CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
SAME(2, CU_POINTER_ATTRIBUTE_MEMORY_TYPE); SAME(9, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL); SAME(2, CU_MEMORYTYPE_DEVICE);
SAME(16, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT); SAME(13, CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
SAME(36, CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE); SAME(37, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH);
SAME(38, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE); SAME(75, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
SAME(76, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR); SAME(97, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
SAME(5, CU_JIT_ERROR_LOG_BUFFER); SAME(6, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES); SAME(3, CU_JIT_INFO_LOG_BUFFER);
SAME(4, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES); SAME(1, CU_JIT_INPUT_PTX); SAME(8, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
SAME(2, CU_EVENT_DISABLE_TIMING); SAME(1, CU_STREAM_NON_BLOCKING); SAME(2, CU_STREAM_CAPTURE_MODE_RELAXED);
SAME(0, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK); SAME(1, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES); SAME(4, CU_FUNC_ATTRIBUTE_NUM_REGS);
SAME(3, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES); SAME(1, CU_MEMHOSTALLOC_PORTABLE);
#endif
enum { DEVICE_MEMORY, HOST_MEMORY };
enum { CTX = 1, MODULE, FUNCTION, STREAM, EVENT, GRAPH, EXEC, LINK, KINDS };
static const char *const kind_names[KINDS] = {"", "context", "module", "function", "stream", "event", "graph", "exec", "link"};

/* ---- what there is */

typedef struct { uintptr_t base; size_t size; int kind, device; } Block;
typedef struct { int kind, locked; uintptr_t to, from; size_t n; void *staged; struct Object *what; unsigned grid[3], block[3], shared;
                 uint64_t args[64]; } Op;
typedef struct { Op *ops; size_t count; } Queue;
typedef struct Object {
    int kind, device, alive, flags, mode, state;    /* state of a stream: 0 free, 1 capturing, 2 capture spoilt */
    pthread_t thread;
    Queue queue, recorded;
    char *text;                                     /* of a module, a link; the name of a function */
    size_t size;
    struct Object *of;                              /* module of a function, stream of an event */
    int max_shared, references, done, busy;
    char kinds[65];                                 /* of a function: a letter a parameter */
    double time;
    int *options;
    void **values;
    unsigned option_count;
} Object;
enum { COPY_IN, COPY_OUT, COPY, FILL, KERNEL, RECORD, WAIT };

#define MANY 65536
static Block blocks[MANY];
static Object *objects[MANY];
static size_t block_count, object_count;
static int initialized, ended, sticky, devices, version, capability, init_code;
static size_t total[8], used[8];
static unsigned reached[8];                         /* by device, a bit for each whose memory it may access */
static Object primary[8], *defaults[8][3];
static double now;
static __thread Object *current;
static struct { char name[64]; int code; long times, calls, delay; } points[128];
static pthread_mutex_t mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static void unlock(int *unused) { (void)unused; pthread_mutex_unlock(&mutex); }

static int point(const char *name) {
    int k = 0;
    while (points[k].name[0] && strcmp(points[k].name, name)) k++;
    if (!points[k].name[0]) strncpy(points[k].name, name, 63);
    return k;
}

SAY void fake_fail(const char *name, int code, long times) { int k = point(name); points[k].code = code; points[k].times = times; }
SAY void fake_slow(const char *name, long microseconds) { points[point(name)].delay = microseconds; }
SAY long fake_calls(const char *name) { return points[point(name)].calls; }
SAY void fake_shutdown(void) { ended = 1; }

SAY long fake_live(const char *kind) {
    long n = 0;
    for (size_t k = 0; k < block_count; k++) n += blocks[k].base && !strcmp(kind, blocks[k].kind == DEVICE_MEMORY ? "device" : "host");
    for (size_t k = 0; k < object_count; k++) n += objects[k]->alive && !strcmp(kind, kind_names[objects[k]->kind]);
    for (int k = 0; k < 8; k++) n += !strcmp(kind, "context") && primary[k].references > 0;
    return n;
}

static long option(const char *key, long otherwise) {
    const char *text = getenv("FAKE_CUDA"), *at = text ? strstr(text, key) : NULL;
    return at && at[strlen(key)] == '=' ? strtol(at + strlen(key) + 1, NULL, 10) : otherwise;
}

static void configure(void) {
    devices = (int)option("devices", 1), version = (int)option("version", 13000), capability = (int)option("capability", 90);
    init_code = (int)option("init", 0);
    for (int k = 0; k < 8; k++) total[k] = (size_t)option("memory", 1L << 30);
    const char *text = getenv("FAKE_CUDA"), *at = text ? strstr(text, "fail=") : NULL;
    char name[64];
    int code;
    if (at && sscanf(at, "fail=%63[A-Za-z0-9_]:%d", name, &code) == 2) fake_fail(name, code, -1);
}

SAY void fake_reset(void) {                          /* as if the process had just started; what was alive stays where it is */
    for (size_t k = 0; k < object_count; k++) objects[k]->alive = 0;
    memset(points, 0, sizeof points), memset(primary, 0, sizeof primary), memset(defaults, 0, sizeof defaults), memset(used, 0, sizeof used);
    memset(reached, 0, sizeof reached);
    block_count = object_count = 0, initialized = ended = sticky = 0, current = NULL;
    configure();
}

static int enter(const char *name, int needs_start, int needs_context) {
    int k = point(name);
    points[k].calls++;
    if (points[k].delay) usleep((unsigned)points[k].delay);
    if (ended) return DEINITIALIZED;
    if (needs_start && !initialized) return NOT_INITIALIZED;
    if (points[k].times) { points[k].times -= points[k].times > 0; return points[k].code; }
    if (needs_context && !current) return INVALID_CONTEXT;
    if (needs_context && !current->references) return INVALID_CONTEXT;
    if (needs_context && sticky) return sticky;
    return OK;
}

#define ENTER(start, context) \
    int held __attribute__((cleanup(unlock), unused)) = pthread_mutex_lock(&mutex); \
    int entered = enter(__func__, start, context); \
    if (entered) return entered
#define CHECK(condition, code) do { if (!(condition)) return (code); } while (0)

static Object *make(int kind) {
    Object *o = calloc(1, sizeof *o);
    o->kind = kind, o->alive = 1, o->device = current ? current->device : 0;
    if (object_count == MANY) abort();
    return objects[object_count++] = o;
}

static Object *find(const void *handle, int kind) {
    for (size_t k = 0; k < object_count; k++) if (objects[k] == handle && objects[k]->alive && objects[k]->kind == kind) return objects[k];
    return NULL;
}

static Block *holder(uintptr_t address, size_t n, int kind) {
    for (size_t k = 0; k < block_count; k++)
        if (blocks[k].base && blocks[k].kind == kind && address >= blocks[k].base && address - blocks[k].base + n <= blocks[k].size)
            return &blocks[k];
    return NULL;
}

static int on_device(uintptr_t address, size_t n) { return holder(address, n, DEVICE_MEMORY) != NULL; }
static int locked(const void *host, size_t n) { return holder((uintptr_t)host, n, HOST_MEMORY) != NULL; }

/* ---- the kernels of fake_cuda.ptx */

typedef struct { const char *name, *kinds; } Known;
static const Known kernels[] = {{"add", "pppi"}, {"show", "pilfd"}, {"shared", "p"}, {"trap", ""}, {"stray", "p"}, {NULL, NULL}};

static const Known *known(const char *name) {
    const Known *k = kernels;
    while (k->name && strcmp(k->name, name)) k++;
    return k->name ? k : NULL;
}

typedef int (*Runner)(const char *ptx, const unsigned *grid, const unsigned *block, unsigned shared, const uint64_t *args);
static Runner runner;
static uintptr_t arena, arena_end;

SAY void fake_kernels(Runner run, void *memory, size_t n) { runner = run, arena = (uintptr_t)memory, arena_end = arena + n; }

/* The first place of the arena that is free, with a gap behind it; NULL without any. */
static void *place(size_t n) {
    for (uintptr_t at = arena; at + n + 512 <= arena_end;) {
        uintptr_t next = 0;
        for (size_t k = 0; k < block_count && !next; k++)
            if (blocks[k].base && at < blocks[k].base + blocks[k].size + 512 && blocks[k].base < at + n + 512)
                next = (blocks[k].base + blocks[k].size + 1023) / 512 * 512;
        if (!next) return (void *)at;
        at = next;
    }
    return NULL;
}

static int run_kernel(const Op *op) {
    const char *name = op->what->text;
    if (!known(name)) {       /* Python runs it, which other threads may need meanwhile */
        pthread_mutex_unlock(&mutex);
        int code = runner(op->what->of->text + strlen("FAKE CUBIN\n"), op->grid, op->block, op->shared, op->args);
        pthread_mutex_lock(&mutex);
        return code;
    }
    const uint64_t *a = op->args;
    float f;
    double d;
    int32_t i;
    if (!strcmp(name, "trap")) return LAUNCH_FAILED;
    if (!strcmp(name, "stray")) return on_device(a[0], 4) ? OK : ILLEGAL_ADDRESS;
    if (!strcmp(name, "shared")) {
        if (!on_device(a[0], 4)) return ILLEGAL_ADDRESS;
        *(uint32_t *)(uintptr_t)a[0] = op->shared;
        return OK;
    }
    if (!strcmp(name, "show")) {
        if (!on_device(a[0], 32)) return ILLEGAL_ADDRESS;
        double *out = (double *)(uintptr_t)a[0];
        memcpy(&i, &a[1], 4), memcpy(&f, &a[3], 4), memcpy(&d, &a[4], 8);
        out[0] = i, ((int64_t *)out)[1] = (int64_t)a[2], out[2] = f, out[3] = d;
        return OK;
    }
    memcpy(&i, &a[3], 4);
    if (a[0] % 4 || a[1] % 4 || a[2] % 4) return MISALIGNED;
    long threads = (long)op->grid[0] * op->block[0], n = threads < i ? threads : i;
    if (n > 0 && !(on_device(a[0], 4 * n) && on_device(a[1], 4 * n) && on_device(a[2], 4 * n))) return ILLEGAL_ADDRESS;
    for (long k = 0; k < n; k++)
        ((float *)(uintptr_t)a[2])[k] = ((float *)(uintptr_t)a[0])[k] + ((float *)(uintptr_t)a[1])[k];
    return OK;
}

/* ---- queues */

static void drain_until(Object *stream, const Object *event);

static int run(Op *op) {
    void *to = (void *)op->to, *from = op->staged ? op->staged : (void *)op->from;
    now += 1e-3;
    switch (op->kind) {
    case COPY_IN:                                       /* host memory that has been given back meanwhile is nobody's */
        if (!on_device(op->to, op->n) || (op->locked && !locked(from, op->n))) return ILLEGAL_ADDRESS;
        memcpy(to, from, op->n);
        return OK;
    case COPY_OUT:
        if (!on_device(op->from, op->n) || (op->locked && !locked(to, op->n))) return ILLEGAL_ADDRESS;
        memcpy(to, from, op->n);
        return OK;
    case COPY:
        if (!on_device(op->to, op->n) || !on_device(op->from, op->n)) return ILLEGAL_ADDRESS;
        memmove(to, from, op->n);
        return OK;
    case FILL: if (!on_device(op->to, op->n)) return ILLEGAL_ADDRESS; memset(to, (int)op->from, op->n); return OK;
    case KERNEL: return run_kernel(op);
    case RECORD: op->what->done = 1, op->what->time = now; return OK;
    case WAIT: if (op->what->of) drain_until(op->what->of, op->what); return OK;
    }
    return INVALID_VALUE;
}

static void append(Queue *queue, const Op *op) {
    queue->ops = realloc(queue->ops, (queue->count + 1) * sizeof *op);
    queue->ops[queue->count++] = *op;
}

static pthread_cond_t idle = PTHREAD_COND_INITIALIZER;

static void drain_until(Object *stream, const Object *event) {      /* up to the event; NULL: all of it */
    while (stream->busy && !(event && event->done)) pthread_cond_wait(&idle, &mutex);
    if (event && event->done) return;
    stream->busy = 1;
    Queue *queue = &stream->queue;
    while (queue->count && !(event && event->done)) {
        Op op = queue->ops[0];
        memmove(queue->ops, queue->ops + 1, --queue->count * sizeof op);
        int code = sticky ? OK : run(&op);
        if (code) sticky = code;
        free(op.staged);
    }
    stream->busy = 0;
    pthread_cond_broadcast(&idle);
}
static void drain(Object *stream) { drain_until(stream, NULL); }

static void drain_all(int device) {
    for (size_t k = 0; k < object_count; k++) if (objects[k]->alive && objects[k]->kind == STREAM && objects[k]->device == device) drain(objects[k]);
}

/* The stream of a handle, or NULL for a bad one; it must be of the current context.  1, 2: the default streams, which are always there. */
static Object *of_stream(CUstream handle) {
    uintptr_t number = (uintptr_t)handle;
    if (number == 1 || number == 2) {
        Object **s = &defaults[current->device][number];
        return *s ? *s : (*s = make(STREAM));
    }
    Object *s = find(handle, STREAM);
    return s && s->device == current->device ? s : NULL;
}

static CUresult queue(CUstream handle, Op *op) {
    Object *s = of_stream(handle);
    CHECK(s, INVALID_HANDLE);
    CHECK(s->state != 2, CAPTURE_INVALIDATED);
    for (size_t k = 0; k < object_count && (uintptr_t)handle == 1; k++) {  /* the legacy stream waits for streams that are not non-blocking */
        Object *o = objects[k];
        if (o->alive && o->kind == STREAM && o->state == 1 && !(o->flags & 1)) { o->state = 2; return CAPTURE_IMPLICIT; }
    }
    append(s->state ? &s->recorded : &s->queue, op);
    return OK;
}

/* Graphs read and write page-locked memory only: what becomes of other memory when they run is said nowhere. */
static CUresult recordable(Object *s, const void *host, size_t n) {
    if (!s || !s->state || locked(host, n)) return OK;
    s->state = 2;
    return CAPTURE_UNSUPPORTED;
}

/* A call that cuda.h calls potentially unsafe, by a thread that records in another mode than relaxed, spoils what it records. */
static CUresult unsafe(void) {
    for (size_t k = 0; k < object_count; k++) {
        Object *s = objects[k];
        if (s->alive && s->kind == STREAM && s->state == 1 && s->mode != 2 && (s->mode == 0 || pthread_equal(s->thread, pthread_self()))) {
            s->state = 2;
            return CAPTURE_UNSUPPORTED;
        }
    }
    return OK;
}
#define SAFE() do { CUresult spoilt = unsafe(); if (spoilt) return spoilt; } while (0)

/* ---- the driver and its devices */

API cuInit(unsigned int flags) {
    ENTER(0, 0);
    CHECK(!flags, INVALID_VALUE);
    configure();
    if (init_code) return init_code;
    if (!devices) return NO_DEVICE;
    initialized = 1;
    return OK;
}

API cuDriverGetVersion(int *out) {
    ENTER(0, 0);
    configure();
    *out = version;
    return OK;
}

API cuGetErrorName(CUresult code, const char **out) {
    static const struct { int code; const char *name; } names[] = {
        {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"}, {NO_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"}, {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED"},
        {DEINITIALIZED, "CUDA_ERROR_DEINITIALIZED"}, {NO_DEVICE, "CUDA_ERROR_NO_DEVICE"}, {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE"},
        {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE"}, {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"}, {INVALID_PTX, "CUDA_ERROR_INVALID_PTX"},
        {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE"}, {ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE"}, {NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
        {NOT_READY, "CUDA_ERROR_NOT_READY"}, {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS"}, {MISALIGNED, "CUDA_ERROR_MISALIGNED_ADDRESS"},
        {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED"}, {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
        {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
        {CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT"}, {CAPTURE_WRONG_THREAD, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD"}};
    points[point(__func__)].calls++;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) if (names[k].code == (int)code) { *out = names[k].name; return OK; }
    *out = NULL;
    return INVALID_VALUE;
}

API cuGetErrorString(CUresult code, const char **out) {
    const char *name = NULL;
    static __thread char text[96];
    points[point(__func__)].calls++;
    if (cuGetErrorName(code, &name)) { *out = NULL; return INVALID_VALUE; }
    snprintf(text, sizeof text, "the fake says %s", name);
    *out = text;
    return OK;
}

API cuDeviceGetCount(int *out) { ENTER(1, 0); *out = devices; return OK; }
API cuDeviceGet(CUdevice *out, int ordinal) {
    ENTER(1, 0);
    CHECK(ordinal >= 0 && ordinal < devices, INVALID_DEVICE);
    *out = ordinal + 40;                            /* a CUdevice is not an ordinal */
    return OK;
}
#define DEVICE(d) CHECK((d) >= 40 && (d) < 40 + devices, INVALID_DEVICE)

API cuDeviceGetName(char *name, int len, CUdevice dev) {
    ENTER(1, 0);
    DEVICE(dev);
    snprintf(name, (size_t)len, "Fake GPU %d", dev - 40);
    return OK;
}

API cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev) { ENTER(1, 0); DEVICE(dev); *bytes = total[dev - 40]; return OK; }

API cuDeviceGetAttribute(int *out, CUdevice_attribute attribute, CUdevice dev) {
    ENTER(1, 0);
    DEVICE(dev);
    switch ((int)attribute) {
    case 16: *out = 132; return OK;
    case 13: *out = (int)option("clock", 1980000); return *out ? OK : INVALID_VALUE;
    case 36: *out = 3201000; return OK;
    case 37: *out = 6144; return OK;
    case 38: *out = 62914560; return OK;
    case 75: *out = (dev > 40 ? (int)option("second", capability) : capability) / 10; return OK;
    case 76: *out = (dev > 40 ? (int)option("second", capability) : capability) % 10; return OK;
    case 97: *out = 232448; return OK;
    }
    return INVALID_VALUE;
}

API cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice dev) {
    ENTER(1, 0);
    DEVICE(dev);
    for (int k = 0; k < 16; k++) uuid->bytes[k] = (char)(16 * (dev - 40) + k);
    return OK;
}

API cuDeviceGetPCIBusId(char *text, int len, CUdevice dev) {
    ENTER(1, 0);
    DEVICE(dev);
    snprintf(text, (size_t)len, "0000:%02x:00.0", 4 + dev - 40);
    return OK;
}

API cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice dev) {
    ENTER(1, 0);
    DEVICE(dev);
    Object *c = &primary[dev - 40];
    c->kind = CTX, c->device = dev - 40, c->references++;
    *out = (CUcontext)c;
    return OK;
}

API cuDevicePrimaryCtxRelease_v2(CUdevice dev) {
    ENTER(1, 0);
    DEVICE(dev);
    Object *c = &primary[dev - 40];
    CHECK(c->references > 0, INVALID_CONTEXT);
    if (--c->references) return OK;
    reached[dev - 40] = 0;
    for (int k = 0; k < 8; k++) reached[k] &= ~(1u << (dev - 40));
    for (size_t k = 0; k < object_count; k++) if (objects[k]->device == dev - 40) objects[k]->alive = 0;
    for (size_t k = 0; k < block_count; k++)
        if (blocks[k].base && blocks[k].device == dev - 40) {
            if (blocks[k].base < arena || blocks[k].base >= arena_end) free((void *)blocks[k].base);
            blocks[k].base = 0;
        }
    used[dev - 40] = 0;
    return OK;
}

API cuCtxSetCurrent(CUcontext ctx) {
    ENTER(1, 0);
    if (sticky) return sticky;
    Object *c = (Object *)ctx;
    CHECK(!c || (c >= primary && c < primary + 8 && c->references), INVALID_CONTEXT);
    current = c;
    return OK;
}

/* ---- memory */

static CUresult take(void **out, size_t n, int kind) {
    SAFE();
    CHECK(n, INVALID_VALUE);
    size_t *sum = &used[current->device];
    if (kind == DEVICE_MEMORY && *sum + n > total[current->device]) return NO_MEMORY;
    if (kind == DEVICE_MEMORY && arena) *out = place(n);
    else if (posix_memalign(out, 512, n)) *out = NULL;
    if (!*out) return NO_MEMORY;
    memset(*out, 0xCD, n);
    if (kind == DEVICE_MEMORY) *sum += n;
    if (block_count == MANY) abort();
    blocks[block_count++] = (Block){(uintptr_t)*out, n, kind, current->device};
    return OK;
}

static CUresult give(uintptr_t address, int kind) {
    SAFE();
    Block *b = holder(address, 0, kind);
    CHECK(b && b->base == address, INVALID_VALUE);
    if (kind == DEVICE_MEMORY) drain_all(b->device);    /* nothing is said of a wait of cuMemFreeHost */
    memset((void *)address, 0xDD, b->size);
    if (kind == DEVICE_MEMORY) used[b->device] -= b->size;
    if (address < arena || address >= arena_end) free((void *)address);
    b->base = 0;
    return sticky;
}

API cuMemAlloc_v2(CUdeviceptr *out, size_t n) {
    ENTER(1, 1);
    void *p = NULL;
    CUresult code = take(&p, n, DEVICE_MEMORY);
    if (!code) *out = (CUdeviceptr)(uintptr_t)p;
    return code;
}
API cuMemFree_v2(CUdeviceptr p) { ENTER(1, 1); return give((uintptr_t)p, DEVICE_MEMORY); }
API cuMemHostAlloc(void **out, size_t n, unsigned int flags) { ENTER(1, 1); CHECK(flags <= 7, INVALID_VALUE); return take(out, n, HOST_MEMORY); }
API cuMemFreeHost(void *p) { ENTER(1, 1); return give((uintptr_t)p, HOST_MEMORY); }

API cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes) {
    ENTER(1, 1);
    *total_bytes = total[current->device], *free_bytes = *total_bytes - used[current->device];
    return OK;
}

API cuPointerGetAttribute(void *out, CUpointer_attribute attribute, CUdeviceptr p) {
    ENTER(1, 1);
    Block *b = holder((uintptr_t)p, 1, DEVICE_MEMORY);
    if (!b) b = holder((uintptr_t)p, 1, HOST_MEMORY);
    CHECK(b, INVALID_VALUE);
    if ((int)attribute == 2) *(unsigned *)out = b->kind == DEVICE_MEMORY ? 2 : 1;
    else if ((int)attribute == 9) *(int *)out = b->device;
    else return INVALID_VALUE;
    return OK;
}

API cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t n, CUstream s) {
    ENTER(1, 1);
    CHECK(on_device((uintptr_t)to, n) && from, INVALID_VALUE);
    Object *stream = of_stream(s);
    CHECK(!recordable(stream, from, n), CAPTURE_UNSUPPORTED);
    Op op = {.kind = COPY_IN, .locked = locked(from, n), .to = (uintptr_t)to, .from = (uintptr_t)from, .n = n};
    if (stream && !stream->state && !op.locked) op.staged = memcpy(malloc(n ? n : 1), from, n);
    return queue(s, &op);
}

API cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t n, CUstream s) {
    ENTER(1, 1);
    CHECK(on_device((uintptr_t)from, n) && to, INVALID_VALUE);
    Object *stream = of_stream(s);
    CHECK(!recordable(stream, to, n), CAPTURE_UNSUPPORTED);
    Op op = {.kind = COPY_OUT, .locked = locked(to, n), .to = (uintptr_t)to, .from = (uintptr_t)from, .n = n};
    CUresult code = queue(s, &op);
    if (!code && !stream->state && !locked(to, n)) drain(stream);
    return code ? code : (CUresult)sticky;
}

API cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s) {
    ENTER(1, 1);
    CHECK(on_device((uintptr_t)to, n) && on_device((uintptr_t)from, n), INVALID_VALUE);
    Op op = {.kind = COPY, .to = (uintptr_t)to, .from = (uintptr_t)from, .n = n};
    return queue(s, &op);
}

/* Access to another device's memory is a matter of speed here, as in CUDA: copies between devices work without it. */
API cuDeviceCanAccessPeer(int *out, CUdevice dev, CUdevice peer) {
    ENTER(1, 0);
    DEVICE(dev);
    DEVICE(peer);
    *out = dev != peer && option("peers", 1);
    return OK;
}
API cuCtxEnablePeerAccess(CUcontext ctx, unsigned int flags) {
    ENTER(1, 1);
    Object *c = (Object *)ctx;
    CHECK(c >= primary && c < primary + 8 && c->references && c != current, INVALID_CONTEXT);
    CHECK(!flags, INVALID_VALUE);
    unsigned *mine = &reached[current->device], bit = 1u << c->device;
    CHECK(!(*mine & bit), PEER_ENABLED);
    *mine |= bit;
    return OK;
}

/* Recording it is not documented, so it is refused. */
API cuMemcpyPeerAsync(CUdeviceptr to, CUcontext target, CUdeviceptr from, CUcontext source, size_t n, CUstream s) {
    ENTER(1, 1);
    Object *a = (Object *)target, *b = (Object *)source, *stream = of_stream(s);
    CHECK(a >= primary && a < primary + 8 && b >= primary && b < primary + 8 && a->references && b->references, INVALID_CONTEXT);
    Block *x = holder((uintptr_t)to, n, DEVICE_MEMORY), *y = holder((uintptr_t)from, n, DEVICE_MEMORY);
    CHECK(x && y && x->device == a->device && y->device == b->device, INVALID_VALUE);
    CHECK(stream, INVALID_HANDLE);
    CHECK(!stream->state, CAPTURE_UNSUPPORTED);
    Op op = {.kind = COPY, .to = (uintptr_t)to, .from = (uintptr_t)from, .n = n};
    return queue(s, &op);
}

API cuMemsetD8Async(CUdeviceptr to, unsigned char byte, size_t n, CUstream s) {
    ENTER(1, 1);
    CHECK(on_device((uintptr_t)to, n), INVALID_VALUE);
    Op op = {.kind = FILL, .to = (uintptr_t)to, .from = byte, .n = n};
    return queue(s, &op);
}

/* ---- streams and events */

API cuStreamCreate(CUstream *out, unsigned int flags) {
    ENTER(1, 1);
    CHECK(flags <= 1, INVALID_VALUE);
    Object *s = make(STREAM);
    s->flags = (int)flags;
    *out = (CUstream)s;
    return OK;
}

API cuStreamDestroy_v2(CUstream handle) {
    ENTER(1, 1);
    Object *s = find(handle, STREAM);
    CHECK(s, INVALID_HANDLE);
    drain(s);
    s->alive = 0;
    return OK;
}

API cuStreamSynchronize(CUstream handle) {
    ENTER(1, 1);
    Object *s = of_stream(handle);
    CHECK(s, INVALID_HANDLE);
    if (s->state) { s->state = 2; return CAPTURE_UNSUPPORTED; }
    drain(s);
    return sticky;
}

API cuStreamWaitEvent(CUstream handle, CUevent event, unsigned int flags) {
    ENTER(1, 1);
    Object *e = find(event, EVENT);
    CHECK(e, INVALID_HANDLE);
    CHECK(!flags, INVALID_VALUE);
    Op op = {.kind = WAIT, .what = e};
    return e->of ? queue(handle, &op) : OK;
}

API cuEventCreate(CUevent *out, unsigned int flags) {
    ENTER(1, 1);
    CHECK(flags <= 3, INVALID_VALUE);
    Object *e = make(EVENT);
    e->flags = (int)flags;
    *out = (CUevent)e;
    return OK;
}

API cuEventRecord(CUevent event, CUstream s) {
    ENTER(1, 1);
    Object *e = find(event, EVENT);
    CHECK(e && of_stream(s) && e->device == of_stream(s)->device, INVALID_HANDLE);
    e->of = of_stream(s), e->done = 0;
    Op op = {.kind = RECORD, .what = e};
    return queue(s, &op);
}

API cuEventSynchronize(CUevent event) {
    ENTER(1, 1);
    Object *e = find(event, EVENT);
    CHECK(e, INVALID_HANDLE);
    if (e->of && !e->done) drain(e->of);
    return sticky;
}

API cuEventElapsedTime(float *out, CUevent first, CUevent second) {
    ENTER(1, 1);
    Object *a = find(first, EVENT), *b = find(second, EVENT);
    CHECK(a && b && a->of && b->of && !(a->flags & 2) && !(b->flags & 2), INVALID_HANDLE);
    CHECK(a->done && b->done, NOT_READY);
    *out = (float)(1e3 * (b->time - a->time));      /* an op takes a millisecond */
    return OK;
}

API cuEventDestroy_v2(CUevent event) {
    ENTER(1, 1);
    Object *e = find(event, EVENT);
    CHECK(e, INVALID_HANDLE);
    e->alive = 0;
    return OK;
}

/* ---- code: a cubin of the fake is a mark and the PTX */

static const char mark[] = "FAKE CUBIN\n";

static CUresult complain(Object *link, const char *text) {
    for (unsigned k = 0; k < link->option_count; k++)
        for (unsigned j = 0; link->options[k] == 5 && j < link->option_count; j++)
            if (link->options[j] == 6) {
                size_t room = (size_t)(uintptr_t)link->values[j];
                int n = snprintf(link->values[k], room, "%s", text);
                link->values[j] = (void *)(uintptr_t)n;             /* the driver writes back how much it used */
            }
    return INVALID_PTX;
}

API cuLinkCreate_v2(unsigned int n, CUjit_option *options, void **values, CUlinkState *out) {
    ENTER(1, 1);
    CHECK(!n || (options && values), INVALID_VALUE);
    for (unsigned k = 0; k < n; k++) CHECK((int)options[k] >= 3 && (int)options[k] <= 6, INVALID_VALUE);
    Object *o = make(LINK);
    o->option_count = n, o->options = (int *)options, o->values = values;
    *out = (CUlinkState)o;
    return OK;
}

API cuLinkAddData_v2(CUlinkState state, CUjitInputType type, void *data, size_t size, const char *name, unsigned int n,
                     CUjit_option *options, void **values) {
    ENTER(1, 1);
    Object *o = find(state, LINK);
    CHECK(o, INVALID_HANDLE);
    CHECK((int)type == 1 && data && size && name && !n && !options && !values, INVALID_VALUE);
    const char *ptx = data;
    char log[256];
    if (ptx[size - 1]) return complain(o, "the text does not end with NUL");
    if (!strstr(ptx, ".version")) {
        snprintf(log, sizeof log, "%s, line 1; fatal : Missing .version directive", name);
        return complain(o, log);
    }
    o->text = strdup(ptx);
    return OK;
}

API cuLinkComplete(CUlinkState state, void **out, size_t *size) {
    ENTER(1, 1);
    Object *o = find(state, LINK);
    CHECK(o, INVALID_HANDLE);
    CHECK(o->text, INVALID_VALUE);
    char *cubin = malloc(sizeof mark + strlen(o->text));
    strcpy(cubin, mark), strcat(cubin, o->text);
    free(o->text), o->text = cubin;
    *out = cubin, *size = o->size = strlen(cubin) + 1;
    return OK;
}

API cuLinkDestroy(CUlinkState state) {
    ENTER(1, 0);
    Object *o = find(state, LINK);
    CHECK(o, INVALID_HANDLE);
    if (o->size) memset(o->text, 0xDD, o->size), free(o->text);
    o->alive = 0;
    return OK;
}

API cuModuleLoadData(CUmodule *out, const void *image) {
    ENTER(1, 1);
    CHECK(image && !strncmp(image, mark, strlen(mark)), INVALID_IMAGE);
    Object *m = make(MODULE);
    m->text = strdup(image);
    *out = (CUmodule)m;
    return OK;
}

API cuModuleUnload(CUmodule module) {
    ENTER(1, 1);
    Object *m = find(module, MODULE);
    CHECK(m, INVALID_HANDLE);
    for (size_t k = 0; k < object_count; k++) if (objects[k]->kind == FUNCTION && objects[k]->of == m) objects[k]->alive = 0;
    m->alive = 0;
    return OK;
}

API cuModuleGetFunction(CUfunction *out, CUmodule module, const char *name) {
    ENTER(1, 1);
    Object *m = find(module, MODULE);
    CHECK(m, INVALID_HANDLE);
    char entry[128];
    snprintf(entry, sizeof entry, ".entry %s(", name);
    const char *at = strstr(m->text, entry);
    CHECK(at && (known(name) || runner), NOT_FOUND);
    Object *f = make(FUNCTION);
    const char *end = strchr(at + strlen(entry) , ')');
    for (size_t n = 0; !known(name) && n < 64 && (at = strstr(at, ".param .")) && at < end; at += 8)
        f->kinds[n++] = strtol(at + 9, NULL, 10) == 64 ? 'l' : 'i';
    f->of = m, f->text = strdup(name), f->max_shared = 48 << 10;
    *out = (CUfunction)f;
    return OK;
}

API cuFuncGetAttribute(int *out, CUfunction_attribute attribute, CUfunction handle) {
    ENTER(1, 1);
    Object *f = find(handle, FUNCTION);
    CHECK(f, INVALID_HANDLE);
    static const int values[] = {1024, 256, 0, 16, 40, 78, 90, 0, 0};
    CHECK((int)attribute >= 0 && (int)attribute <= 8, INVALID_VALUE);
    *out = (int)attribute == 8 ? f->max_shared : values[attribute];
    return OK;
}

API cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value) {
    ENTER(1, 1);
    Object *f = find(handle, FUNCTION);
    CHECK(f, INVALID_HANDLE);
    CHECK((int)attribute == 8 && value >= 0 && value <= 232448, INVALID_VALUE);
    f->max_shared = value;
    return OK;
}

API cuLaunchKernel(CUfunction handle, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by,
                   unsigned int bz, unsigned int shared, CUstream s, void **params, void **extra) {
    ENTER(1, 1);
    Object *f = find(handle, FUNCTION);
    CHECK(f, INVALID_HANDLE);
    CHECK(f->device == current->device, INVALID_CONTEXT);
    CHECK(gx && gy && gz && bx && by && bz && gx < 1u << 31 && gy < 65536 && gz < 65536, INVALID_VALUE);
    CHECK((unsigned long)bx * by * bz <= 1024 && bz <= 64 && shared <= (unsigned)f->max_shared && !extra, INVALID_VALUE);
    Op op = {.kind = KERNEL, .what = f, .grid = {gx, gy, gz}, .block = {bx, by, bz}, .shared = shared};
    const char *kinds = known(f->text) ? known(f->text)->kinds : f->kinds;
    for (size_t k = 0; kinds[k]; k++) {
        CHECK(params && params[k], INVALID_VALUE);
        memcpy(&op.args[k], params[k], kinds[k] == 'i' || kinds[k] == 'f' ? 4 : 8);
    }
    return queue(s, &op);
}

/* ---- graphs */

API cuStreamBeginCapture_v2(CUstream handle, CUstreamCaptureMode mode) {
    ENTER(1, 1);
    CHECK(handle, CAPTURE_UNSUPPORTED);
    Object *s = of_stream(handle);
    CHECK(s, INVALID_HANDLE);
    CHECK(!s->state, ILLEGAL_STATE);
    CHECK((int)mode >= 0 && (int)mode <= 2, INVALID_VALUE);
    s->state = 1, s->mode = (int)mode, s->thread = pthread_self();
    memset(&s->recorded, 0, sizeof s->recorded);
    return OK;
}

API cuStreamEndCapture(CUstream handle, CUgraph *out) {
    ENTER(1, 1);
    Object *s = of_stream(handle);
    CHECK(s, INVALID_HANDLE);
    CHECK(s->state, ILLEGAL_STATE);
    CHECK(s->mode == 2 || pthread_equal(s->thread, pthread_self()), CAPTURE_WRONG_THREAD);
    int spoilt = s->state == 2;
    s->state = 0, *out = NULL;
    if (spoilt) return CAPTURE_INVALIDATED;
    Object *g = make(GRAPH);
    g->recorded = s->recorded;
    *out = (CUgraph)g;
    return OK;
}

API cuGraphInstantiateWithFlags(CUgraphExec *out, CUgraph graph, unsigned long long flags) {
    ENTER(1, 1);
    Object *g = find(graph, GRAPH);
    CHECK(g, INVALID_HANDLE);
    CHECK(!flags, INVALID_VALUE);
    Object *e = make(EXEC);
    for (size_t k = 0; k < g->recorded.count; k++) append(&e->recorded, &g->recorded.ops[k]);
    *out = (CUgraphExec)e;
    return OK;
}

API cuGraphDestroy(CUgraph graph) {
    ENTER(1, 0);
    Object *g = find(graph, GRAPH);
    CHECK(g, INVALID_HANDLE);
    g->alive = 0;
    return OK;
}

API cuGraphLaunch(CUgraphExec exec, CUstream s) {
    ENTER(1, 1);
    Object *e = find(exec, EXEC);
    CHECK(e && of_stream(s), INVALID_HANDLE);
    for (size_t k = 0; k < e->recorded.count; k++) {
        CUresult code = queue(s, &e->recorded.ops[k]);
        if (code) return code;
    }
    return OK;
}

API cuGraphExecDestroy(CUgraphExec exec) {
    ENTER(1, 0);
    Object *e = find(exec, EXEC);
    CHECK(e, INVALID_HANDLE);
    e->alive = 0;
    return OK;
}
