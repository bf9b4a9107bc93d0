// What stands between fcam and TensorRT: one file, compiled on the device against its own JetPack, opened by fcam at run time.
//
//     g++ -std=c++14 -O2 -fPIC -shared -I/usr/local/cuda/include trt_shim.cc -o libfcam_trt.so ...
//         -L/usr/local/cuda/lib64 -lcudart_static -ldl -lrt -lpthread
//
// In: the bytes of an ONNX file, or of an engine that was built from one. Out: logits and map of a picture. TensorRT 8.5 to 11, CUDA 11.4 and
// later. It refuses, by a code and a message: no driver, no device, a TensorRT of another major version than the headers that it was compiled
// with, a network with other tensors than the contract's. No exception leaves it, and TensorRT is not called before the probe has found a
// device: without one it hands out pointers that are not null and not valid, and one of another major version has other tables of functions.
//
// TensorRT and its ONNX parser are opened by name and not linked, so that what is missing is a message and not a loader's error.

#include <NvInfer.h>
#include <NvOnnxParser.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <string>

#if NV_TENSORRT_MAJOR < 8 || (NV_TENSORRT_MAJOR == 8 && NV_TENSORRT_MINOR < 5)
#error "TensorRT 8.5 (JetPack 5.1) is the oldest that has tensors by name"
#endif
#if CUDART_VERSION < 11040
#error "CUDA 11.4 (JetPack 5) is the oldest"
#endif

extern "C" {
/* --- ABI: C and C++ alike; src/engine/tensorrt/shim.rs has the same in Rust. Any change is a new number. ------------------------------- */

#define FCAM_TRT_ABI 1

/* What a call says. */
#define FCAM_TRT_OK 0
#define FCAM_TRT_NO_DRIVER 1
#define FCAM_TRT_NO_DEVICE 2
#define FCAM_TRT_NO_LIBRARY 3
#define FCAM_TRT_WRONG_VERSION 4
#define FCAM_TRT_BUILD 5
#define FCAM_TRT_CANCELLED 6
#define FCAM_TRT_LOAD 7
#define FCAM_TRT_SHAPE 8
#define FCAM_TRT_RUN 9
#define FCAM_TRT_ARGUMENT 10
#define FCAM_TRT_MEMORY 11
#define FCAM_TRT_INTERNAL 12

/* Flags of a build: the network has QuantizeLinear nodes. */
#define FCAM_TRT_INT8 1

/* What the machine has; zeros and an empty name for what was not found out. */
struct fcam_trt_facts {
    int32_t driver;        /* CUDA version of the driver, 1000 * major + 10 * minor */
    int32_t cudart;        /* CUDA version that the shim was linked with, likewise */
    int32_t devices;       /* GPUs */
    int32_t header[3];     /* TensorRT that the shim was compiled for: major, minor, patch */
    int32_t library[4];    /* TensorRT that is there: major, minor, patch, build */
    int32_t capability[2]; /* compute capability of the first GPU: major, minor */
    int32_t integrated;    /* 1 if the GPU has the memory of the CPU */
    int32_t typed;         /* 1 if types come from the network alone (TensorRT 11), 0 if by flags of the build */
    int64_t memory;        /* bytes that the GPU has */
    char name[128];        /* of the first GPU */
};

/* What the network must look like. */
struct fcam_trt_shape {
    int32_t width;
    int32_t height;
    int32_t classes;
};

/* Where a loaded engine reads and writes; valid until it is unloaded. */
struct fcam_trt_ports {
    float *input;        /* 3 * height * width: planes R, G, B, (pixel - 128) / 128 */
    const float *logits; /* classes */
    const float *map;    /* height * width */
    int32_t zero_copy;   /* 1 if the GPU reads and writes these very bytes */
    int32_t graph;       /* 1 if a run is one CUDA graph */
};

/* Text of TensorRT's own log: 0 internal error, 1 error, 2 warning, 3 info, 4 verbose. Called from any thread. */
typedef void (*fcam_trt_log)(int32_t severity, const char *text);

/* How far a build is: step of steps in a phase (0 of 0 if unknown). Not 0 gives it up, from TensorRT 10 on. Called from any thread, one at a time. */
typedef int32_t (*fcam_trt_progress)(void *context, const char *phase, int32_t step, int32_t steps);

struct fcam_trt_engine;

/* Each call returns a code; unless it is FCAM_TRT_OK, the message says why: at most `room` bytes, its terminating 0 among them. */
int32_t fcam_trt_abi(void);
void fcam_trt_set_log(fcam_trt_log log);
int32_t fcam_trt_probe(struct fcam_trt_facts *facts, char *message, size_t room);
int32_t fcam_trt_build(const void *onnx, size_t bytes, uint32_t flags, fcam_trt_progress progress, void *context, void **plan,
                       size_t *plan_bytes, char *message, size_t room);
void fcam_trt_free(void *plan);
int32_t fcam_trt_load(const void *plan, size_t bytes, const struct fcam_trt_shape *shape, struct fcam_trt_engine **engine,
                      struct fcam_trt_ports *ports, char *message, size_t room);
int32_t fcam_trt_run(struct fcam_trt_engine *engine, char *message, size_t room);
void fcam_trt_unload(struct fcam_trt_engine *engine);

/* --- end of the ABI --------------------------------------------------------------------------------------------------------------------- */
}

namespace {

using namespace nvinfer1;

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

// A test loads the lean runtime by these instead.
#ifndef FCAM_TRT_NVINFER
#define FCAM_TRT_NVINFER "libnvinfer.so." TEXT(NV_TENSORRT_MAJOR)
#endif
#ifndef FCAM_TRT_PARSER
#define FCAM_TRT_PARSER "libnvonnxparser.so." TEXT(NV_TENSORRT_MAJOR)
#endif

// A failure on its way to the caller.
struct Failure {
    int32_t code;
    std::string text;
};

[[noreturn]] __attribute__((format(printf, 2, 3))) void fail(int32_t code, const char *format, ...) {
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    throw Failure{code, text};
}

void tell(char *message, size_t room, const char *text) {
    if (message != nullptr && room > 0) {
        std::snprintf(message, room, "%s", text);
    }
}

// Runs `work`; whatever it throws is a code and a message.
template <class Work> int32_t guarded(char *message, size_t room, Work work) noexcept {
    try {
        tell(message, room, "");
        work();
        return FCAM_TRT_OK;
    } catch (const Failure &failure) {
        tell(message, room, failure.text.c_str());
        return failure.code;
    } catch (const std::bad_alloc &) {
        tell(message, room, "out of memory");
        return FCAM_TRT_MEMORY;
    } catch (const std::exception &error) {
        tell(message, room, error.what());
    } catch (...) {
        tell(message, room, "an exception of an unknown kind");
    }
    return FCAM_TRT_INTERNAL;
}

// TensorRT's log: errors are kept for the message of the call that fails, everything goes to fcam if it listens.
class Logger : public ILogger {
  public:
    void log(Severity severity, const char *text) noexcept override {
        const fcam_trt_log hook = hook_.load();
        if (hook != nullptr) {
            hook(static_cast<int32_t>(severity), text);
        }
        if (severity > Severity::kERROR) {
            return;
        }
        std::lock_guard<std::mutex> lock(mutex_);
        const size_t used = std::strlen(errors_);
        if (used + 3 < sizeof errors_) {
            std::snprintf(errors_ + used, sizeof errors_ - used, "%s%s", used == 0 ? "" : "; ", text);
        }
    }

    void hook(fcam_trt_log log) { hook_ = log; }

    void clear() {
        std::lock_guard<std::mutex> lock(mutex_);
        errors_[0] = 0;
    }

    std::string errors() {
        std::lock_guard<std::mutex> lock(mutex_);
        return errors_[0] == 0 ? "no reason given" : errors_;
    }

  private:
    std::mutex mutex_;
    std::atomic<fcam_trt_log> hook_{nullptr};
    char errors_[1536] = {0};
};

// TensorRT keeps pointers to its logger for as long as anything of it lives: never destroyed.
Logger &logger() {
    static Logger *const the = new Logger;
    return *the;
}

void *open_library(const char *name) {
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL); // never closed: what it started cannot be taken back
    if (library == nullptr) {
        const char *why = dlerror();
        fail(FCAM_TRT_NO_LIBRARY, "%s cannot be opened: %s", name, why == nullptr ? "no reason given" : why);
    }
    return library;
}

template <class Function> Function find(void *library, const char *name, const char *in) {
    void *symbol = dlsym(library, name);
    if (symbol == nullptr) {
        fail(FCAM_TRT_NO_LIBRARY, "%s has no %s", in, name);
    }
    return reinterpret_cast<Function>(symbol);
}

void cuda(cudaError_t error, int32_t code, const char *what) {
    if (error != cudaSuccess) {
        (void)cudaGetLastError(); // it would come up again in the next call
        fail(code, "%s: %s (%s)", what, cudaGetErrorName(error), cudaGetErrorString(error));
    }
}

// --- the probe ----------------------------------------------------------------------------------------------------------

// 8502 is 8.5.2, 100300 is 10.3.0.
void split(int32_t version, int32_t *into) {
    const int32_t major = version >= 10000 ? version / 10000 : version / 1000;
    const int32_t minor = version >= 10000 ? version / 100 % 100 : version / 100 % 10;
    into[0] = major, into[1] = minor, into[2] = version % 100;
}

void probe_library(fcam_trt_facts &facts) {
    void *nvinfer = open_library(FCAM_TRT_NVINFER);
    const auto version = find<int32_t (*)()>(nvinfer, "getInferLibVersion", FCAM_TRT_NVINFER);
    split(version(), facts.library);
    // From 9 on.
    void *build = dlsym(nvinfer, "getInferLibBuildVersion");
    facts.library[3] = build == nullptr ? 0 : reinterpret_cast<int32_t (*)()>(build)();
    if (facts.library[0] != NV_TENSORRT_MAJOR) {
        fail(FCAM_TRT_WRONG_VERSION, "this shim was compiled for TensorRT %d and there is %d.%d.%d: compile it again on this device",
             NV_TENSORRT_MAJOR, facts.library[0], facts.library[1], facts.library[2]);
    }
}

// By the driver's own interface: the runtime library is not asked before the driver is known to work.
void probe_device(fcam_trt_facts &facts) {
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (driver == nullptr) {
        const char *why = dlerror();
        fail(FCAM_TRT_NO_DRIVER, "there is no CUDA driver: %s", why == nullptr ? "no reason given" : why);
    }
    const auto init = find<int32_t (*)(unsigned)>(driver, "cuInit", "libcuda.so.1");
    const auto version = find<int32_t (*)(int32_t *)>(driver, "cuDriverGetVersion", "libcuda.so.1");
    const auto count = find<int32_t (*)(int32_t *)>(driver, "cuDeviceGetCount", "libcuda.so.1");
    const auto name = find<int32_t (*)(char *, int32_t, int32_t)>(driver, "cuDeviceGetName", "libcuda.so.1");
    const auto memory = find<int32_t (*)(size_t *, int32_t)>(driver, "cuDeviceTotalMem_v2", "libcuda.so.1");
    (void)version(&facts.driver);
    int32_t error = init(0);
    if (error == 100) { // CUDA_ERROR_NO_DEVICE
        fail(FCAM_TRT_NO_DEVICE, "the CUDA driver finds no GPU");
    }
    if (error != 0) {
        fail(FCAM_TRT_NO_DRIVER, "the CUDA driver does not start: cuInit gives %d", error);
    }
    error = count(&facts.devices);
    if (error != 0 || facts.devices < 1) {
        fail(FCAM_TRT_NO_DEVICE, "the CUDA driver finds no GPU (cuDeviceGetCount gives %d)", error);
    }
    (void)name(facts.name, sizeof facts.name - 1, 0);
    size_t bytes = 0;
    (void)memory(&bytes, 0);
    facts.memory = static_cast<int64_t>(bytes);

    int32_t devices = 0;
    cuda(cudaGetDeviceCount(&devices), FCAM_TRT_NO_DRIVER, "the CUDA runtime and the driver do not go together");
    if (devices < 1) {
        fail(FCAM_TRT_NO_DEVICE, "the CUDA runtime finds no GPU");
    }
    const auto attribute = [](cudaDeviceAttr which) {
        int32_t value = 0;
        cuda(cudaDeviceGetAttribute(&value, which, 0), FCAM_TRT_NO_DEVICE, "cudaDeviceGetAttribute");
        return value;
    };
    facts.capability[0] = attribute(cudaDevAttrComputeCapabilityMajor);
    facts.capability[1] = attribute(cudaDevAttrComputeCapabilityMinor);
    // Only memory that is the same and can be mapped is worth sharing.
    facts.integrated = attribute(cudaDevAttrIntegrated) != 0 && attribute(cudaDevAttrCanMapHostMemory) != 0 ? 1 : 0;
}

// Fills in whatever can be found out, then fails with what matters first: driver, device, library.
void probe(fcam_trt_facts &facts) {
    std::memset(&facts, 0, sizeof facts);
    facts.header[0] = NV_TENSORRT_MAJOR, facts.header[1] = NV_TENSORRT_MINOR, facts.header[2] = NV_TENSORRT_PATCH;
    facts.typed = NV_TENSORRT_MAJOR >= 11 ? 1 : 0;
    facts.cudart = CUDART_VERSION;
    Failure library{FCAM_TRT_OK, ""};
    try {
        probe_library(facts);
    } catch (const Failure &failure) {
        library = failure;
    }
    probe_device(facts);
    if (library.code != FCAM_TRT_OK) {
        throw library;
    }
}

// --- building -----------------------------------------------------------------------------------------------------------

#if NV_TENSORRT_MAJOR >= 10
// Tells fcam how far a build is. The phases are a tree; only steps are told, under the name of their own phase.
class Monitor : public IProgressMonitor {
  public:
    Monitor(fcam_trt_progress progress, void *context) : progress_(progress), context_(context) {}

    void phaseStart(const char *phase, const char *, int32_t steps) noexcept override {
        std::lock_guard<std::mutex> lock(mutex_);
        for (auto &known : phases_) {
            if (known.steps == 0) {
                std::snprintf(known.name, sizeof known.name, "%s", phase);
                known.steps = steps;
                break;
            }
        }
        tell(phase, 0, steps);
    }

    bool stepComplete(const char *phase, int32_t step) noexcept override {
        std::lock_guard<std::mutex> lock(mutex_);
        int32_t steps = 0;
        for (const auto &known : phases_) {
            steps = known.steps > 0 && std::strncmp(known.name, phase, sizeof known.name - 1) == 0 ? known.steps : steps;
        }
        tell(phase, step + 1, steps);
        return !cancelled_;
    }

    void phaseFinish(const char *phase) noexcept override {
        std::lock_guard<std::mutex> lock(mutex_);
        for (auto &known : phases_) {
            if (known.steps > 0 && std::strncmp(known.name, phase, sizeof known.name - 1) == 0) {
                known.steps = 0;
            }
        }
    }

    bool cancelled() {
        std::lock_guard<std::mutex> lock(mutex_);
        return cancelled_;
    }

  private:
    void tell(const char *phase, int32_t step, int32_t steps) noexcept {
        if (progress_ != nullptr && progress_(context_, phase, step, steps) != 0) {
            cancelled_ = true;
        }
    }

    struct Phase {
        char name[96];
        int32_t steps;
    };

    std::mutex mutex_;
    Phase phases_[16] = {};
    bool cancelled_ = false;
    fcam_trt_progress progress_;
    void *context_;
};
#endif

void set_types(IBuilder &builder, IBuilderConfig &config, uint32_t flags) {
#if NV_TENSORRT_MAJOR < 11
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    // Both: layers that are not quantised then run in half precision.
    if (builder.platformHasFastFp16()) {
        config.setFlag(BuilderFlag::kFP16);
    }
    if ((flags & FCAM_TRT_INT8) != 0) {
        config.setFlag(BuilderFlag::kINT8);
    }
#pragma GCC diagnostic pop
#else
    (void)builder, (void)config, (void)flags;
#endif
}

void parse(nvonnxparser::IParser &parser, const void *onnx, size_t bytes) {
    if (parser.parse(onnx, bytes)) {
        return;
    }
    std::string text = "TensorRT does not take the network";
    for (int32_t index = 0; index < std::min(parser.getNbErrors(), 4); ++index) {
        const auto *error = parser.getError(index);
        if (error == nullptr) {
            continue;
        }
        text += index == 0 ? ": " : "; ";
#if NV_TENSORRT_MAJOR >= 10
        if (error->nodeName() != nullptr && error->nodeName()[0] != 0) {
            text += std::string(error->nodeName()) + " (" + error->nodeOperator() + "): ";
        }
#else
        text += "node " + std::to_string(error->node()) + ": ";
#endif
        text += error->desc();
    }
    throw Failure{FCAM_TRT_BUILD, text};
}

// At most 1 GiB to try tactics in, and half of what there is: the rest of a board lives in the same memory.
size_t workspace(const fcam_trt_facts &facts) {
    const int64_t half = std::max<int64_t>(facts.memory / 2, int64_t{64} << 20);
    return static_cast<size_t>(std::min<int64_t>(half, int64_t{1} << 30));
}

std::unique_ptr<IHostMemory> build(const fcam_trt_facts &facts, const void *onnx, size_t bytes, uint32_t flags,
                                   fcam_trt_progress progress, void *context) {
    void *nvinfer = open_library(FCAM_TRT_NVINFER), *parsers = open_library(FCAM_TRT_PARSER);
    using Create = void *(*)(void *, int32_t);
    using CreateParser = void *(*)(void *, void *, int32_t);
    const auto create = find<Create>(nvinfer, "createInferBuilder_INTERNAL", FCAM_TRT_NVINFER);
    const auto create_parser = find<CreateParser>(parsers, "createNvOnnxParser_INTERNAL", FCAM_TRT_PARSER);
    const auto made = [](const void *object, const char *what) {
        if (object == nullptr) {
            fail(FCAM_TRT_BUILD, "TensorRT makes no %s: %s", what, logger().errors().c_str());
        }
    };

    logger().clear();
    std::unique_ptr<IBuilder> builder(static_cast<IBuilder *>(create(&logger(), NV_TENSORRT_VERSION)));
    made(builder.get(), "builder");
#if NV_TENSORRT_MAJOR < 10
    const uint32_t explicit_batch = 1U << static_cast<uint32_t>(NetworkDefinitionCreationFlag::kEXPLICIT_BATCH);
    std::unique_ptr<INetworkDefinition> network(builder->createNetworkV2(explicit_batch));
#else
    std::unique_ptr<INetworkDefinition> network(builder->createNetworkV2(0));
#endif
    made(network.get(), "network");
    std::unique_ptr<IBuilderConfig> config(builder->createBuilderConfig());
    made(config.get(), "configuration");
    config->setMemoryPoolLimit(MemoryPoolType::kWORKSPACE, workspace(facts));
    set_types(*builder, *config, flags);
    std::unique_ptr<nvonnxparser::IParser> parser(
        static_cast<nvonnxparser::IParser *>(create_parser(network.get(), &logger(), NV_ONNX_PARSER_VERSION)));
    made(parser.get(), "ONNX parser");
    parse(*parser, onnx, bytes);
#if NV_TENSORRT_MAJOR >= 10
    Monitor monitor(progress, context);
    config->setProgressMonitor(&monitor);
    std::unique_ptr<IHostMemory> plan(builder->buildSerializedNetwork(*network, *config));
    if (plan == nullptr && monitor.cancelled()) {
        fail(FCAM_TRT_CANCELLED, "the build was given up");
    }
#else
    if (progress != nullptr && progress(context, "Building", 0, 0) != 0) {
        fail(FCAM_TRT_CANCELLED, "the build was given up");
    }
    std::unique_ptr<IHostMemory> plan(builder->buildSerializedNetwork(*network, *config));
#endif
    made(plan.get(), "engine");
    return plan;
}

// --- running ------------------------------------------------------------------------------------------------------------

// One tensor: what the CPU sees and what the GPU sees, the same bytes where they share memory.
struct Buffer {
    Buffer() = default;
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;

    void allocate(size_t count, bool shared) {
        bytes = count * sizeof(float);
        const unsigned flags = shared ? cudaHostAllocMapped : cudaHostAllocDefault;
        cuda(cudaHostAlloc(&host, bytes, flags), FCAM_TRT_MEMORY, "no pinned memory");
        std::memset(host, 0, bytes);
        if (shared) {
            cuda(cudaHostGetDevicePointer(&device, host, 0), FCAM_TRT_MEMORY, "pinned memory is not mapped");
        } else {
            cuda(cudaMalloc(&own, bytes), FCAM_TRT_MEMORY, "no memory on the GPU");
            device = own;
        }
    }

    ~Buffer() {
        (void)cudaFree(own); // nothing if it is null
        (void)cudaFreeHost(host);
    }

    void *host = nullptr;
    void *device = nullptr;
    void *own = nullptr; // on the GPU; null where memory is shared
    size_t bytes = 0;
};

} // namespace

// In the order in which it is made; destroyed the other way round.
struct fcam_trt_engine {
    fcam_trt_engine() = default;
    fcam_trt_engine(const fcam_trt_engine &) = delete;
    fcam_trt_engine &operator=(const fcam_trt_engine &) = delete;

    std::unique_ptr<nvinfer1::IRuntime> runtime;
    std::unique_ptr<nvinfer1::ICudaEngine> engine;
    std::unique_ptr<nvinfer1::IExecutionContext> context;
    Buffer input, logits, map;
    cudaStream_t stream = nullptr;
    cudaGraphExec_t graph = nullptr;

    ~fcam_trt_engine() {
        if (stream != nullptr) {
            (void)cudaStreamSynchronize(stream);
        }
        drop_graph();
        if (stream != nullptr) {
            (void)cudaStreamDestroy(stream);
        }
    }

    void drop_graph() {
        if (graph != nullptr) {
            (void)cudaGraphExecDestroy(graph);
            graph = nullptr;
        }
    }
};

namespace {

// A tensor of the engine must be the contract's: name, side, float32, rows one after the other, shape.
void check_tensor(const ICudaEngine &engine, const char *name, TensorIOMode mode, const int64_t *shape, int32_t rank) {
    if (engine.getTensorIOMode(name) != mode) {
        fail(FCAM_TRT_SHAPE, "the engine has no %s `%s`", mode == TensorIOMode::kINPUT ? "input" : "output", name);
    }
    if (engine.getTensorDataType(name) != DataType::kFLOAT || engine.getTensorFormat(name) != TensorFormat::kLINEAR) {
        fail(FCAM_TRT_SHAPE, "`%s` of the engine is not plain float32", name);
    }
    const auto dims = engine.getTensorShape(name);
    bool same = dims.nbDims == rank;
    for (int32_t index = 0; same && index < rank; ++index) {
        same = static_cast<int64_t>(dims.d[index]) == shape[index]; // 32 bits before TensorRT 10
    }
    if (!same) {
        fail(FCAM_TRT_SHAPE, "`%s` of the engine has another shape than the bundle's", name);
    }
}

void check_tensors(const ICudaEngine &engine, const fcam_trt_shape &shape) {
    const int64_t width = shape.width, height = shape.height;
    const int64_t input[4] = {1, 3, height, width}, logits[2] = {1, shape.classes}, map[4] = {1, 1, height, width};
    if (engine.getNbIOTensors() != 3) {
        fail(FCAM_TRT_SHAPE, "the engine has %d inputs and outputs, not 3", engine.getNbIOTensors());
    }
    check_tensor(engine, "input", TensorIOMode::kINPUT, input, 4);
    check_tensor(engine, "logits", TensorIOMode::kOUTPUT, logits, 2);
    check_tensor(engine, "map", TensorIOMode::kOUTPUT, map, 4);
}

// Puts a run into the stream.
void enqueue(fcam_trt_engine &engine) {
    const auto copy = [&](void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
        cuda(cudaMemcpyAsync(to, from, bytes, kind, engine.stream), FCAM_TRT_RUN, "cudaMemcpyAsync");
    };
    if (engine.input.own != nullptr) {
        copy(engine.input.device, engine.input.host, engine.input.bytes, cudaMemcpyHostToDevice);
    }
    if (!engine.context->enqueueV3(engine.stream)) {
        fail(FCAM_TRT_RUN, "TensorRT does not run: %s", logger().errors().c_str());
    }
    for (Buffer *output : {&engine.logits, &engine.map}) {
        if (output->own != nullptr) {
            copy(output->host, output->device, output->bytes, cudaMemcpyDeviceToHost);
        }
    }
}

void run(fcam_trt_engine &engine) {
    logger().clear();
    if (engine.graph != nullptr) {
        cuda(cudaGraphLaunch(engine.graph, engine.stream), FCAM_TRT_RUN, "cudaGraphLaunch");
    } else {
        enqueue(engine);
    }
    cuda(cudaStreamSynchronize(engine.stream), FCAM_TRT_RUN, "the GPU failed");
}

cudaError_t instantiate(cudaGraphExec_t *into, cudaGraph_t graph) {
#if CUDART_VERSION >= 12000
    return cudaGraphInstantiate(into, graph, 0);
#else
    return cudaGraphInstantiate(into, graph, nullptr, nullptr, 0);
#endif
}

void new_stream(fcam_trt_engine &engine) {
    if (engine.stream != nullptr) {
        (void)cudaStreamDestroy(engine.stream);
        engine.stream = nullptr;
    }
    cuda(cudaStreamCreateWithFlags(&engine.stream, cudaStreamNonBlocking), FCAM_TRT_LOAD, "no stream");
}

// One launch for all kernels of a run. Not every engine can be captured: then there is none, and the stream is a fresh one.
void capture(fcam_trt_engine &engine) {
    if (cudaStreamBeginCapture(engine.stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess) {
        (void)cudaGetLastError();
        return;
    }
    bool captured = true;
    try {
        enqueue(engine);
    } catch (const Failure &) {
        captured = false;
    }
    cudaGraph_t graph = nullptr;
    captured = cudaStreamEndCapture(engine.stream, &graph) == cudaSuccess && captured && graph != nullptr;
    if (captured && instantiate(&engine.graph, graph) != cudaSuccess) {
        engine.graph = nullptr;
    }
    if (graph != nullptr) {
        (void)cudaGraphDestroy(graph);
    }
    (void)cudaGetLastError();
    if (engine.graph == nullptr) {
        new_stream(engine);
    }
}

// The shortest of ten runs, seconds.
double shortest(fcam_trt_engine &engine) {
    double best = 1e9;
    for (int32_t index = 0; index < 10; ++index) {
        const auto start = std::chrono::steady_clock::now();
        run(engine);
        best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return best;
}

// Keeps the graph if it is faster. A graph that fails is no reason to fail.
void choose_graph(fcam_trt_engine &engine) {
    run(engine); // what is set up by the first run cannot be captured
    const double plain = shortest(engine);
    capture(engine);
    if (engine.graph == nullptr) {
        return;
    }
    bool faster = false;
    try {
        faster = shortest(engine) < plain;
    } catch (const Failure &) {
        (void)cudaGetLastError();
    }
    if (!faster) {
        engine.drop_graph();
        run(engine);
    }
}

void load(fcam_trt_engine &engine, const fcam_trt_facts &facts, const void *plan, size_t bytes, const fcam_trt_shape &shape) {
    void *nvinfer = open_library(FCAM_TRT_NVINFER);
    const auto create = find<void *(*)(void *, int32_t)>(nvinfer, "createInferRuntime_INTERNAL", FCAM_TRT_NVINFER);
    logger().clear();
    cuda(cudaSetDevice(0), FCAM_TRT_LOAD, "cudaSetDevice");
    engine.runtime.reset(static_cast<IRuntime *>(create(&logger(), NV_TENSORRT_VERSION)));
    if (engine.runtime == nullptr) {
        fail(FCAM_TRT_LOAD, "TensorRT makes no runtime: %s", logger().errors().c_str());
    }
    engine.engine.reset(engine.runtime->deserializeCudaEngine(plan, bytes));
    if (engine.engine == nullptr) {
        fail(FCAM_TRT_LOAD, "TensorRT does not take the engine: %s", logger().errors().c_str());
    }
    check_tensors(*engine.engine, shape);
    engine.context.reset(engine.engine->createExecutionContext());
    if (engine.context == nullptr) {
        fail(FCAM_TRT_LOAD, "TensorRT makes no execution context: %s", logger().errors().c_str());
    }
    const size_t pixels = static_cast<size_t>(shape.width) * static_cast<size_t>(shape.height);
    const bool shared = facts.integrated != 0;
    engine.input.allocate(3 * pixels, shared);
    engine.logits.allocate(static_cast<size_t>(shape.classes), shared);
    engine.map.allocate(pixels, shared);
    const bool placed = engine.context->setTensorAddress("input", engine.input.device) &&
                        engine.context->setTensorAddress("logits", engine.logits.device) &&
                        engine.context->setTensorAddress("map", engine.map.device);
    if (!placed) {
        fail(FCAM_TRT_LOAD, "TensorRT does not take the buffers: %s", logger().errors().c_str());
    }
    new_stream(engine);
    choose_graph(engine);
}

void required(bool given) {
    if (!given) {
        fail(FCAM_TRT_ARGUMENT, "a pointer is null, or there is nothing behind it");
    }
}

} // namespace

extern "C" {

int32_t fcam_trt_abi(void) { return FCAM_TRT_ABI; }

void fcam_trt_set_log(fcam_trt_log log) { logger().hook(log); }

int32_t fcam_trt_probe(fcam_trt_facts *facts, char *message, size_t room) {
    return guarded(message, room, [&] {
        required(facts != nullptr);
        probe(*facts);
    });
}

int32_t fcam_trt_build(const void *onnx, size_t bytes, uint32_t flags, fcam_trt_progress progress, void *context, void **plan,
                       size_t *plan_bytes, char *message, size_t room) {
    return guarded(message, room, [&] {
        required(onnx != nullptr && bytes > 0 && plan != nullptr && plan_bytes != nullptr);
        *plan = nullptr, *plan_bytes = 0;
        fcam_trt_facts facts;
        probe(facts);
        cuda(cudaSetDevice(0), FCAM_TRT_BUILD, "cudaSetDevice");
        const auto built = build(facts, onnx, bytes, flags, progress, context);
        void *copy = std::malloc(built->size());
        if (copy == nullptr) {
            throw std::bad_alloc();
        }
        std::memcpy(copy, built->data(), built->size());
        *plan = copy, *plan_bytes = built->size();
    });
}

void fcam_trt_free(void *plan) { std::free(plan); }

int32_t fcam_trt_load(const void *plan, size_t bytes, const fcam_trt_shape *shape, fcam_trt_engine **engine, fcam_trt_ports *ports,
                      char *message, size_t room) {
    return guarded(message, room, [&] {
        required(plan != nullptr && bytes > 0 && shape != nullptr && engine != nullptr && ports != nullptr);
        required(shape->width > 0 && shape->height > 0 && shape->classes > 0);
        *engine = nullptr;
        fcam_trt_facts facts;
        probe(facts);
        auto loaded = std::make_unique<fcam_trt_engine>();
        load(*loaded, facts, plan, bytes, *shape);
        ports->input = static_cast<float *>(loaded->input.host);
        ports->logits = static_cast<const float *>(loaded->logits.host);
        ports->map = static_cast<const float *>(loaded->map.host);
        ports->zero_copy = loaded->input.own == nullptr ? 1 : 0;
        ports->graph = loaded->graph != nullptr ? 1 : 0;
        *engine = loaded.release();
    });
}

int32_t fcam_trt_run(fcam_trt_engine *engine, char *message, size_t room) {
    return guarded(message, room, [&] {
        required(engine != nullptr);
        run(*engine);
    });
}

void fcam_trt_unload(fcam_trt_engine *engine) { delete engine; }
}
