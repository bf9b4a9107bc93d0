// CUDA and TensorRT 11.4 without a GPU, as far as board/jetson/trt_shim.cc calls them, so that the real shim runs from end to end. One file for
// four libraries: what stands in for libcuda.so.1, libcudart.so, libnvinfer.so.11 and libnvonnxparser.so.11 is here, and each is compiled from it.
//
// The objects have the real tables of functions, of the real headers: every entry that the shim does not use ends the program with a word. The
// "GPU" keeps memory of its own and works at once, but for what is captured into a graph, which works when it is launched. Its network is that of
// mock.c. What goes wrong is asked for by the environment: FAKE_FAIL = init none count old_runtime major builder parse build runtime deserialize shape
// type context address run host graph capture sync; FAKE_SHARED = 1 for a GPU that shares the memory of the CPU.

#include <NvInfer.h>
#include <NvOnnxParser.h>
#include <cuda_runtime_api.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace {

bool fails(const char *what) {
    const char *asked = std::getenv("FAKE_FAIL");
    return asked != nullptr && std::strcmp(asked, what) == 0;
}

[[noreturn, maybe_unused]] void broken(const char *what) {
    std::fprintf(stderr, "fake: %s\n", what);
    std::abort();
}

} // namespace

#ifdef DRIVER // --- libcuda.so.1 -----------------------------------------------------------------------------------------

extern "C" {
int32_t cuInit(unsigned) { return fails("init") ? 999 : fails("none") ? 100 : 0; }
int32_t cuDriverGetVersion(int32_t *version) { return *version = 13000, 0; }
int32_t cuDeviceGetCount(int32_t *count) { return *count = fails("count") ? 0 : 1, 0; }
int32_t cuDeviceGetName(char *name, int32_t room, int32_t) { return std::snprintf(name, static_cast<size_t>(room), "Fake"), 0; }
int32_t cuDeviceTotalMem_v2(size_t *bytes, int32_t) { return *bytes = size_t{4} << 30, 0; }
}

#endif
#ifdef RUNTIME // --- libcudart.so: each allocation is known, so that what is freed twice, never, or by the wrong call ends the program -----

namespace {

std::map<void *, char> &allocations() {
    static auto &the = *new std::map<void *, char>;
    return the;
}

void *allocate(size_t bytes, char kind) {
    void *memory = std::calloc(1, bytes);
    allocations()[memory] = kind;
    return memory;
}

cudaError_t release(void *memory, char kind) {
    if (memory != nullptr) {
        if (allocations().count(memory) == 0 || allocations()[memory] != kind) {
            broken("memory is freed that is not allocated, or by the wrong call");
        }
        allocations().erase(memory);
        std::free(memory);
    }
    return cudaSuccess;
}

struct Graph {
    std::vector<std::function<void()>> work;
};

Graph *capturing = nullptr;
int32_t objects = 0; // streams and graphs that live
cudaError_t last = cudaSuccess;

cudaError_t failed(cudaError_t error) { return last = error; }

struct Leaks {
    ~Leaks() {
        if (!allocations().empty() || objects != 0) {
            std::fprintf(stderr, "fake: %zu allocations and %d streams or graphs were never freed\n", allocations().size(), objects);
        } else {
            std::fprintf(stderr, "fake: all was freed\n");
        }
    }
} leaks;

} // namespace

extern "C" {
// The GPU's work, from the fake TensorRT.
void fake_work(std::function<void()> *work) {
    if (capturing != nullptr) {
        capturing->work.push_back(*work);
    } else {
        (*work)();
    }
}

const char *cudaGetErrorName(cudaError_t) { return "cudaErrorFake"; }
const char *cudaGetErrorString(cudaError_t) { return "a fake error"; }
cudaError_t cudaGetLastError() {
    const cudaError_t error = last;
    last = cudaSuccess;
    return error;
}
cudaError_t cudaGetDeviceCount(int *count) { return *count = 1, fails("old_runtime") ? failed(cudaErrorInsufficientDriver) : cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int) {
    const char *shared = std::getenv("FAKE_SHARED");
    const int is_shared = shared != nullptr && *shared == '1';
    *value = attribute == cudaDevAttrComputeCapabilityMajor ? 8 : attribute == cudaDevAttrComputeCapabilityMinor ? 7 : is_shared;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned flags) {
    if (fails("host")) {
        return failed(cudaErrorMemoryAllocation);
    }
    *memory = allocate(bytes, flags == cudaHostAllocMapped ? 'm' : 'h');
    return cudaSuccess;
}
cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned) {
    if (allocations()[host] != 'm') {
        broken("memory is shared that is not mapped");
    }
    *device = host;
    return cudaSuccess;
}
cudaError_t cudaMalloc(void **memory, size_t bytes) { return *memory = allocate(bytes, 'd'), cudaSuccess; }
cudaError_t cudaFree(void *memory) { return release(memory, 'd'); }
cudaError_t cudaFreeHost(void *memory) {
    const bool mapped = memory != nullptr && allocations().count(memory) == 1 && allocations()[memory] == 'm';
    return release(memory, mapped ? 'm' : 'h');
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
    const void *device = kind == cudaMemcpyHostToDevice ? to : from, *host = kind == cudaMemcpyHostToDevice ? from : to;
    if (allocations()[const_cast<void *>(device)] != 'd' || allocations()[const_cast<void *>(host)] != 'h') {
        broken("a copy goes the wrong way");
    }
    std::function<void()> copy = [=] { std::memcpy(to, from, bytes); };
    fake_work(&copy);
    return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    *stream = static_cast<cudaStream_t>(std::malloc(1));
    ++objects;
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    std::free(stream);
    --objects;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
    if (capturing != nullptr) {
        broken("a stream is waited for while it is captured");
    }
    return fails("sync") ? failed(cudaErrorIllegalAddress) : cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
    if (fails("capture")) {
        return failed(cudaErrorStreamCaptureUnsupported);
    }
    capturing = new Graph;
    ++objects;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *graph) {
    *graph = reinterpret_cast<cudaGraph_t>(capturing);
    capturing = nullptr;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
    if (fails("graph")) {
        return failed(cudaErrorNotSupported);
    }
    *exec = reinterpret_cast<cudaGraphExec_t>(new Graph(*reinterpret_cast<Graph *>(graph)));
    ++objects;
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete reinterpret_cast<Graph *>(graph);
    --objects;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    delete reinterpret_cast<Graph *>(exec);
    --objects;
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t) {
    for (const auto &work : reinterpret_cast<Graph *>(exec)->work) {
        work();
    }
    return cudaSuccess;
}
}

#endif
#if defined(TENSORRT) || defined(PARSER)

namespace {

void unexpected() { broken("TensorRT is asked for something that the fake does not have"); }

// An object whose table has one entry for each function of an interface.
template <class Interface> struct Table {
    explicit Table() { entries.fill(reinterpret_cast<void *>(&unexpected)); }

    // The place of a virtual function in its table, by the Itanium C++ ABI: a pointer to it is one more than its offset.
    template <class Method> void set(Method method, void *function) {
        size_t offset = 0;
        static_assert(sizeof method >= sizeof offset, "");
        std::memcpy(&offset, &method, sizeof offset);
        entries.at((offset - 1) / sizeof(void *)) = function;
    }

    Interface *object() { return reinterpret_cast<Interface *>(this); }

    void **table = entries.data();
    std::array<void *, 512> entries;
};

} // namespace

#endif
#ifdef TENSORRT // --- libnvinfer.so.11 -------------------------------------------------------------------------------------

using namespace nvinfer1;

extern "C" void fake_work(std::function<void()> *work);

namespace {

constexpr int64_t SIDE = 64;
ILogger *listener = nullptr;
IProgressMonitor *monitor = nullptr;
std::map<std::string, float *> addresses;
const char PLAN[] = "a fake plan of TensorRT";

template <class Public, class Inner> struct Object : Public {
    Table<Inner> inner;
    Object() { this->mImpl = inner.object(); }
};

struct Memory : Object<IHostMemory, apiv::VHostMemory> {
    static void *data(void *) { return const_cast<char *>(PLAN); }
    static size_t size(void *) { return sizeof PLAN; }
    Memory() {
        inner.set(&apiv::VHostMemory::data, reinterpret_cast<void *>(&data));
        inner.set(&apiv::VHostMemory::size, reinterpret_cast<void *>(&size));
    }
};

float relu(float value) { return value <= 0 ? 0 : std::fmin(std::nearbyint(value * 127), 127.0f) / 127; }

// As in mock.c.
void infer() {
    const float *input = addresses.at("input");
    float *logits = addresses.at("logits"), *map = addresses.at("map"), sums[2] = {0, 0};
    for (int64_t y = 0; y < SIDE / 2; ++y) {
        for (int64_t x = 0; x < SIDE / 2; ++x) {
            float mean = 0, middle = 0;
            for (int64_t channel = 0; channel < 3; ++channel) {
                const float *plane = input + channel * SIDE * SIDE;
                for (int64_t dy = -1; dy <= 1; ++dy) {
                    for (int64_t dx = -1; dx <= 1; ++dx) {
                        const int64_t row = 2 * y + dy, column = 2 * x + dx;
                        mean += row >= 0 && row < SIDE && column >= 0 && column < SIDE ? plane[row * SIDE + column] / 27 : 0;
                    }
                }
                middle += plane[2 * y * SIDE + 2 * x] / 3;
            }
            const float stem[4] = {relu(mean), relu(-mean), relu(middle), relu(-middle)};
            const float mix[4] = {relu((stem[0] + stem[2]) / 2), relu((stem[1] + stem[3]) / 2), stem[0], stem[1]};
            sums[0] += mix[0], sums[1] += mix[1];
            const float probability = 1 / (1 + std::exp(-(10 * (mix[1] + mix[3] - mix[0] - mix[2]) - 14)));
            for (int64_t index = 0; index < 4; ++index) {
                map[(2 * y + index / 2) * SIDE + 2 * x + index % 2] = probability;
            }
        }
    }
    const float cells = SIDE * SIDE / 4;
    logits[0] = 8 * (relu(sums[0] / cells) - relu(sums[1] / cells));
    logits[1] = -logits[0];
}

struct Context : Object<IExecutionContext, apiv::VExecutionContext> {
    static bool address(void *, const char *name, void *data) { return addresses[name] = static_cast<float *>(data), !fails("address"); }
    static bool run(void *, cudaStream_t) {
        if (fails("run")) {
            listener->log(ILogger::Severity::kERROR, "Error Code 1: the fake does not run");
            return false;
        }
        std::function<void()> work = infer;
        fake_work(&work);
        return true;
    }
    Context() {
        inner.set(&apiv::VExecutionContext::setTensorAddress, reinterpret_cast<void *>(&address));
        inner.set(&apiv::VExecutionContext::enqueueV3, reinterpret_cast<void *>(&run));
    }
};

struct Engine : Object<ICudaEngine, apiv::VCudaEngine> {
    static IExecutionContext *context(void *, ExecutionContextAllocationStrategy) { return fails("context") ? nullptr : new Context; }
    // Returned through a hidden pointer, which comes before the object.
    static Dims *shape(Dims *into, void *, const char *name) {
        const std::string tensor = name;
        *into = tensor == "input" ? Dims{4, {1, 3, SIDE, SIDE}} : tensor == "map" ? Dims{4, {1, 1, SIDE, SIDE}} : Dims{2, {1, fails("shape") ? 3 : 2}};
        return into;
    }
    static DataType type(void *, const char *) { return fails("type") ? DataType::kHALF : DataType::kFLOAT; }
    static TensorIOMode mode(void *, const char *name) {
        const std::string tensor = name;
        return tensor == "input" ? TensorIOMode::kINPUT : tensor == "logits" || tensor == "map" ? TensorIOMode::kOUTPUT : TensorIOMode::kNONE;
    }
    static TensorFormat format(void *, const char *) { return TensorFormat::kLINEAR; }
    static int32_t count(void *) { return 3; }
    Engine() {
        inner.set(&apiv::VCudaEngine::createExecutionContext, reinterpret_cast<void *>(&context));
        inner.set(&apiv::VCudaEngine::getTensorShape, reinterpret_cast<void *>(&shape));
        inner.set(&apiv::VCudaEngine::getTensorDataType, reinterpret_cast<void *>(&type));
        inner.set(&apiv::VCudaEngine::getTensorIOMode, reinterpret_cast<void *>(&mode));
        using Format = TensorFormat (apiv::VCudaEngine::*)(const char *) const noexcept;
        inner.set(static_cast<Format>(&apiv::VCudaEngine::getTensorFormat), reinterpret_cast<void *>(&format));
        inner.set(&apiv::VCudaEngine::getNbIOTensors, reinterpret_cast<void *>(&count));
    }
};

struct Runtime : Object<IRuntime, apiv::VRuntime> {
    static ICudaEngine *load(void *, const void *plan, size_t bytes) {
        if (fails("deserialize") || bytes != sizeof PLAN || std::memcmp(plan, PLAN, bytes) != 0) {
            listener->log(ILogger::Severity::kERROR, "Error Code 1: magic tag does not match");
            return nullptr;
        }
        return new Engine;
    }
    Runtime() {
        using Load = ICudaEngine *(apiv::VRuntime::*)(const void *, size_t) noexcept;
        inner.set(static_cast<Load>(&apiv::VRuntime::deserializeCudaEngine), reinterpret_cast<void *>(&load));
    }
};

struct Config : Object<IBuilderConfig, apiv::VBuilderConfig> {
    static void limit(void *, MemoryPoolType pool, size_t bytes) {
        if (pool != MemoryPoolType::kWORKSPACE || bytes != size_t{1} << 30) {
            broken("the workspace is not 1 GiB on a GPU of 4 GiB");
        }
    }
    static void watch(void *, IProgressMonitor *given) { monitor = given; }
    Config() {
        inner.set(&apiv::VBuilderConfig::setMemoryPoolLimit, reinterpret_cast<void *>(&limit));
        inner.set(&apiv::VBuilderConfig::setProgressMonitor, reinterpret_cast<void *>(&watch));
    }
};

struct Network : Object<INetworkDefinition, apiv::VNetworkDefinition> {};

struct Builder : Object<IBuilder, apiv::VBuilder> {
    static IBuilderConfig *config(void *) { return new Config; }
    static INetworkDefinition *network(void *, NetworkDefinitionCreationFlags) { return new Network; }
    static IHostMemory *build(void *, INetworkDefinition &, IBuilderConfig &) {
        if (fails("build")) {
            listener->log(ILogger::Severity::kERROR, "Error Code 10: could not find any implementation for node conv");
            return nullptr;
        }
        monitor->phaseStart("Building Engine", nullptr, 2);
        monitor->phaseStart("Computing profile costs", "Building Engine", 3);
        for (int32_t step = 0; step < 3; ++step) {
            if (!monitor->stepComplete("Computing profile costs", step)) {
                return nullptr;
            }
        }
        monitor->phaseFinish("Computing profile costs");
        monitor->phaseFinish("Building Engine");
        return new Memory;
    }
    Builder() {
        inner.set(&apiv::VBuilder::createBuilderConfig, reinterpret_cast<void *>(&config));
        inner.set(&apiv::VBuilder::createNetworkV2, reinterpret_cast<void *>(&network));
        using Build = IHostMemory *(apiv::VBuilder::*)(INetworkDefinition &, IBuilderConfig &) noexcept;
        inner.set(static_cast<Build>(&apiv::VBuilder::buildSerializedNetwork), reinterpret_cast<void *>(&build));
    }
};

} // namespace

extern "C" {
int32_t getInferLibVersion() noexcept { return fails("major") ? 100300 : 110400; }
int32_t getInferLibBuildVersion() noexcept { return 106; }
void *createInferBuilder_INTERNAL(void *logger, int32_t) noexcept {
    listener = static_cast<ILogger *>(logger);
    listener->log(ILogger::Severity::kWARNING, "a fake warning");
    return fails("builder") ? nullptr : static_cast<IBuilder *>(new Builder);
}
void *createInferRuntime_INTERNAL(void *logger, int32_t) noexcept {
    listener = static_cast<ILogger *>(logger);
    return fails("runtime") ? nullptr : static_cast<IRuntime *>(new Runtime);
}
}

#endif
#ifdef PARSER // --- libnvonnxparser.so.11 ----------------------------------------------------------------------------------

namespace {

struct ParserError : nvonnxparser::IParserError {
    nvonnxparser::ErrorCode code() const override { return nvonnxparser::ErrorCode::kUNSUPPORTED_NODE; }
    const char *desc() const override { return "Assertion failed: a fake one"; }
    const char *file() const override { return ""; }
    int line() const override { return 1; }
    const char *func() const override { return ""; }
    int node() const override { return 7; }
    const char *nodeName() const override { return "stem"; }
    const char *nodeOperator() const override { return "Conv"; }
    const char *const *localFunctionStack() const override { return nullptr; }
    int32_t localFunctionStackSize() const override { return 0; }
};

// Only these are asked; the destructor frees nothing.
bool parse(void *, const void *, size_t, const char *) { return !fails("parse"); }
int errors(void *) { return 1; }
const nvonnxparser::IParserError *error(void *, int) {
    static const ParserError the;
    return &the;
}
void destroy(void *) {}

} // namespace

extern "C" void *createNvOnnxParser_INTERNAL(void *, void *, int) noexcept {
    using nvonnxparser::IParser;
    static auto &the = *new Table<IParser>;
    the.set(&IParser::parse, reinterpret_cast<void *>(&parse));
    the.set(&IParser::getNbErrors, reinterpret_cast<void *>(&errors));
    the.set(&IParser::getError, reinterpret_cast<void *>(&error));
    // Two destructors follow clearErrors in the table: that of an object, and that of one that is deleted.

    size_t offset = 0;
    auto before = &IParser::clearErrors;
    std::memcpy(&offset, &before, sizeof offset);
    const size_t index = (offset - 1) / sizeof(void *);
    the.entries.at(index + 1) = the.entries.at(index + 2) = reinterpret_cast<void *>(&destroy);
    return the.object();
}

#endif
