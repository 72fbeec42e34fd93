// The CUDA runtime of devices that compute nothing, to be loaded by LD_PRELOAD before NVIDIA's.
//
// torch's own code runs on them: dispatch, choice of kernels, caching allocator, streams. Device memory is address space:
// it reads as zeros until something small is copied there. Kernels are counted and not run, so a result is whatever its
// memory held before. What is not written here, nor a stub (tests/helpers/null_gpu.py), answers cudaErrorNotSupported.
//
// Environment: NULL_GPU_COUNT, NULL_GPU_GIB, NULL_GPU_CAPABILITY (80 or 90) describe the devices; NULL_GPU_COUNTERS is a
// folder for a file of counters per process, NAME.PID; NULL_GPU_PICTURES=WORD:SIDE lets processes with WORD in their
// command line read noise where they read pictures of SIDE x SIDE x 3 bytes.
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include "counters.h"

namespace {

constexpr size_t PAGE = 2 << 20;          // what an allocation is rounded to, as the driver does
constexpr size_t KEPT = 1 << 20;          // larger copies to a device are not carried out
constexpr unsigned DRIVER = 13000;

std::string setting(const char* name, const char* otherwise) {
    const char* value = getenv(name);
    return value && *value ? value : otherwise;
}

const size_t TOTAL = std::stod(setting("NULL_GPU_GIB", "80")) * (1ull << 30);
const int CAPABILITY = std::stoi(setting("NULL_GPU_CAPABILITY", "80"));

int count_devices() {
    const char* visible = getenv("CUDA_VISIBLE_DEVICES");
    int installed = std::stoi(setting("NULL_GPU_COUNT", "8")), shown = 0;
    if (!visible) return installed;
    std::stringstream words(visible);
    std::string word;
    while (std::getline(words, word, ',') && !word.empty()) {  // ends at the first that is none, as CUDA does
        int number = std::atoi(word.c_str());
        if (number < 0 || number >= installed) break;
        shown++;
    }
    return shown;
}

const int DEVICES = count_devices();

std::string command_line() {
    std::ifstream file("/proc/self/cmdline");
    return {std::istreambuf_iterator<char>(file), {}};
}

// What follows --name in the command line, as of every process of a run.
std::string process_name() {
    const std::string words = command_line(), mark("\0--name\0", 8);
    size_t at = words.find(mark);
    return at == std::string::npos ? "other" : words.c_str() + at + mark.size();
}

// Counters of a process lie in a file, so that they outlive it however it ends.
Counters& map_counters() {
    std::string folder = setting("NULL_GPU_COUNTERS", "");
    int flags = MAP_SHARED | MAP_ANONYMOUS, file = -1;
    if (!folder.empty()) {
        std::string path = folder + "/" + process_name() + "." + std::to_string(getpid());
        file = open(path.c_str(), O_RDWR | O_CREAT, 0600);
        if (file >= 0 && ftruncate(file, sizeof(Counters)) == 0) flags = MAP_SHARED;
    }
    void* place = mmap(nullptr, sizeof(Counters), PROT_READ | PROT_WRITE, flags, file, 0);
    if (file >= 0) close(file);
    return *static_cast<Counters*>(place);
}

}  // namespace

Counters& counters = map_counters();

namespace {

struct Block {
    size_t size;
    int device;  // -1: pinned memory of the host
};

std::mutex lock;
std::map<const char*, Block> blocks;  // by their first byte
std::vector<size_t> used(DEVICES);
thread_local int current = 0;
thread_local cudaError_t last = cudaSuccess;
void (*on_wait)(const char*) = nullptr;

cudaError_t fail(cudaError_t error) { return last = error; }

void host_waits(const char* call) {
    counters.waits++;
    if (on_wait) on_wait(call);
}

// The block that holds an address; null for the host's ordinary memory.
const Block* find_block(const void* address) {
    auto after = blocks.upper_bound(static_cast<const char*>(address));
    if (after == blocks.begin()) return nullptr;
    auto& [first, block] = *std::prev(after);
    return static_cast<const char*>(address) < first + block.size ? &block : nullptr;
}

int device_of(const void* address) {  // -1: pinned, -2: ordinary memory
    std::lock_guard<std::mutex> guard(lock);
    const Block* block = find_block(address);
    return block ? block->device : -2;
}

void* reserve(size_t size, size_t alignment) {
    constexpr int FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* place = mmap(nullptr, size + alignment, PROT_READ | PROT_WRITE, FLAGS, -1, 0);
    if (place == MAP_FAILED) return nullptr;
    char* first = static_cast<char*>(place);
    char* aligned = first + (alignment - reinterpret_cast<size_t>(first) % alignment) % alignment;
    if (aligned > first) munmap(first, aligned - first);
    if (aligned < first + alignment) munmap(aligned + size, first + alignment - aligned);
    madvise(aligned, size, MADV_NOHUGEPAGE);  // a small copy shall not take 2 MiB of the host
    return aligned;
}

bool fill_with_noise(void* to, size_t size) {
    static const size_t picture = [] {
        std::string rule = setting("NULL_GPU_PICTURES", ""), word = rule.substr(0, rule.find(':'));
        if (rule.empty() || command_line().find(word) == std::string::npos) return size_t{0};
        size_t side = std::stoul(rule.substr(rule.find(':') + 1));
        return side * side * 3;
    }();
    if (!picture || size < picture || size % picture) return false;
    static thread_local unsigned long state = 88172645463325252ul;  // xorshift64
    auto* words = static_cast<unsigned long*>(to);
    for (size_t i = 0; i < size / sizeof *words; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        words[i] = state;
    }
    return true;
}

void copy(void* to, const void* from, size_t size) {
    int target = device_of(to), source = device_of(from);
    if (target >= 0 && source < 0) {
        counters.copies_in++, counters.bytes_in += size;
        if (source == -2) counters.pageable_copies_in++, counters.pageable_bytes_in += size;
    }
    if (target < 0 && source >= 0) {
        counters.copies_out++, counters.bytes_out += size;
        if (fill_with_noise(to, size)) return;
    }
    if (target < 0 || size <= KEPT) memmove(to, from, size);
    // A scalar that was never computed may lie where something else has been. It reads as 0 rather than as no number.
    if (target < 0 && source >= 0 && size == 4) {
        unsigned bits;
        memcpy(&bits, to, 4);
        if ((bits & 0x7f800000u) == 0x7f800000u) memset(to, 0, 4);
    }
}

size_t next_handle() {
    static std::atomic<size_t> handle{0x1000};
    return handle += 16;
}

cudaError_t launch() {
    counters.kernels++;
    return cudaSuccess;
}

int driver_call() { return 0; }

}  // namespace

extern "C" {

void null_gpu_on_wait(void (*call)(const char*)) { on_wait = call; }
Counters* null_gpu_counters() { return &counters; }

// Devices

cudaError_t cudaGetDeviceCount(int* count) { return *count = DEVICES, DEVICES ? cudaSuccess : fail(cudaErrorNoDevice); }
cudaError_t cudaGetDevice(int* device) { return *device = current, cudaSuccess; }
cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= DEVICES) return fail(cudaErrorInvalidDevice);
    return current = device, cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return host_waits("cudaDeviceSynchronize"), cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = DRIVER, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaGetLastError() {
    cudaError_t error = last;
    return last = cudaSuccess, error;
}
cudaError_t cudaPeekAtLastError() { return last; }
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) { return *can = 1, cudaSuccess; }
cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return cudaSuccess; }
cudaError_t cudaDeviceGetPCIBusId(char* id, int size, int device) {
    return snprintf(id, size, "0000:%02x:00.0", device + 1), cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return cudaSuccess;
}

// An A100 or an H100: what torch's choice of kernels depends on.
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* is, int device) {
    bool hopper = CAPABILITY >= 90;
    memset(is, 0, sizeof *is);
    snprintf(is->name, sizeof is->name, "%s", hopper ? "NVIDIA H100 80GB HBM3" : "NVIDIA A100-SXM4-80GB");
    is->totalGlobalMem = TOTAL;
    is->major = CAPABILITY / 10, is->minor = CAPABILITY % 10;
    is->multiProcessorCount = hopper ? 132 : 108;
    is->sharedMemPerBlock = 48 << 10;
    is->sharedMemPerBlockOptin = (hopper ? 227 : 163) << 10;
    is->sharedMemPerMultiprocessor = (hopper ? 228 : 164) << 10;
    is->regsPerBlock = is->regsPerMultiprocessor = 65536;
    is->warpSize = 32;
    is->maxThreadsPerBlock = is->maxThreadsDim[0] = is->maxThreadsDim[1] = 1024, is->maxThreadsDim[2] = 64;
    is->maxThreadsPerMultiProcessor = 2048;
    is->maxBlocksPerMultiProcessor = 32;
    is->maxGridSize[0] = 0x7fffffff, is->maxGridSize[1] = is->maxGridSize[2] = 65535;
    is->l2CacheSize = (hopper ? 50 : 40) << 20;
    is->memoryBusWidth = 5120;
    is->textureAlignment = 512;
    is->totalConstMem = 65536;
    is->unifiedAddressing = is->concurrentKernels = is->canMapHostMemory = is->managedMemory = is->ECCEnabled = 1;
    is->asyncEngineCount = 3;
    is->pciBusID = device + 1;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    cudaDeviceProp is;
    cudaGetDeviceProperties(&is, device);
    switch (attribute) {
        case cudaDevAttrMaxThreadsPerBlock: *value = is.maxThreadsPerBlock; break;
        case cudaDevAttrMaxSharedMemoryPerBlock: *value = is.sharedMemPerBlock; break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = is.sharedMemPerBlockOptin; break;
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = is.sharedMemPerMultiprocessor; break;
        case cudaDevAttrMaxRegistersPerBlock: *value = is.regsPerBlock; break;
        case cudaDevAttrMultiProcessorCount: *value = is.multiProcessorCount; break;
        case cudaDevAttrMaxThreadsPerMultiProcessor: *value = is.maxThreadsPerMultiProcessor; break;
        case cudaDevAttrMaxGridDimX: *value = is.maxGridSize[0]; break;
        case cudaDevAttrMaxGridDimY: case cudaDevAttrMaxGridDimZ: *value = is.maxGridSize[1]; break;
        case cudaDevAttrWarpSize: *value = is.warpSize; break;
        case cudaDevAttrL2CacheSize: *value = is.l2CacheSize; break;
        case cudaDevAttrComputeCapabilityMajor: *value = is.major; break;
        case cudaDevAttrComputeCapabilityMinor: *value = is.minor; break;
        case cudaDevAttrTextureAlignment: *value = is.textureAlignment; break;
        case cudaDevAttrClockRate: *value = 1410000; break;
        case cudaDevAttrCooperativeLaunch: *value = 1; break;
        default: *value = 0;
    }
    return cudaSuccess;
}

// Memory

cudaError_t cudaMalloc(void** place, size_t size) {
    size = (size + PAGE - 1) / PAGE * PAGE;
    std::lock_guard<std::mutex> guard(lock);
    *place = used[current] + size > TOTAL ? nullptr : reserve(size, PAGE);
    if (!*place) return fail(cudaErrorMemoryAllocation);
    blocks[static_cast<char*>(*place)] = {size, current};
    used[current] += size;
    long now = counters.allocated += size;
    if (now > counters.peak) counters.peak = now;
    return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** place, size_t size, unsigned) {
    std::lock_guard<std::mutex> guard(lock);
    if (!(*place = reserve(size, 4096))) return fail(cudaErrorMemoryAllocation);
    return blocks[static_cast<char*>(*place)] = {size, -1}, cudaSuccess;
}
cudaError_t cudaFree(void* place) {
    std::lock_guard<std::mutex> guard(lock);
    auto found = blocks.find(static_cast<char*>(place));
    if (!place) return cudaSuccess;
    if (found == blocks.end()) return fail(cudaErrorInvalidValue);
    if (found->second.device >= 0) {
        used[found->second.device] -= found->second.size;
        counters.allocated -= found->second.size;
    }
    munmap(place, found->second.size);
    return blocks.erase(found), cudaSuccess;
}
cudaError_t cudaFreeHost(void* place) { return cudaFree(place); }
cudaError_t cudaHostRegister(void* place, size_t size, unsigned) {
    std::lock_guard<std::mutex> guard(lock);
    return blocks[static_cast<char*>(place)] = {size, -1}, cudaSuccess;
}
cudaError_t cudaHostUnregister(void* place) {
    std::lock_guard<std::mutex> guard(lock);
    return blocks.erase(static_cast<char*>(place)), cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
    return *total = TOTAL, *free = TOTAL - used[current], cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* is, const void* address) {
    memset(is, 0, sizeof *is);
    int device = device_of(address);
    is->type = device >= 0 ? cudaMemoryTypeDevice : device == -1 ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
    is->device = device >= 0 ? device : device == -1 ? current : -2;
    if (device >= -1) is->devicePointer = const_cast<void*>(address);
    if (device == -1) is->hostPointer = const_cast<void*>(address);
    return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind) {
    return copy(to, from, size), host_waits("cudaMemcpy"), cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind, cudaStream_t) {
    return copy(to, from, size), cudaSuccess;
}
cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t size, cudaStream_t) {
    return copy(to, from, size), cudaSuccess;
}
cudaError_t cudaMemcpyToSymbol(const void*, const void*, size_t, size_t, cudaMemcpyKind) { return cudaSuccess; }
cudaError_t cudaMemset(void* place, int value, size_t size) {
    if (size <= KEPT) memset(place, value, size);
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* place, int value, size_t size, cudaStream_t) { return cudaMemset(place, value, size); }
cudaError_t cudaGetSymbolAddress(void** place, const void*) {
    static char symbols[1 << 20];
    return *place = symbols, cudaSuccess;
}

// Streams and events: everything in them is over as soon as it is issued

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
    return *stream = reinterpret_cast<cudaStream_t>(next_handle()), cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return cudaStreamCreateWithPriority(stream, 0, 0); }
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithPriority(stream, 0, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamGetPriority(cudaStream_t, int* priority) { return *priority = 0, cudaSuccess; }
cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return host_waits("cudaStreamSynchronize"), cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaLaunchHostFunc(cudaStream_t, cudaHostFn_t call, void* data) { return call(data), cudaSuccess; }
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
    return *status = cudaStreamCaptureStatusNone, cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) { return cudaSuccess; }
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t, cudaStreamCaptureStatus* status, unsigned long long* id, cudaGraph_t*,
                                     const cudaGraphNode_t**, const cudaGraphEdgeData**, size_t* nodes) {
    if (status) *status = cudaStreamCaptureStatusNone;
    if (id) *id = 0;
    if (nodes) *nodes = 0;
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    return *event = reinterpret_cast<cudaEvent_t>(next_handle()), cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventRecordWithFlags(cudaEvent_t, cudaStream_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return host_waits("cudaEventSynchronize"), cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t, cudaEvent_t) { return *ms = 1, cudaSuccess; }

// Kernels

cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* is, const void*) {
    memset(is, 0, sizeof *is);
    is->maxThreadsPerBlock = 1024, is->numRegs = 32, is->binaryVersion = is->ptxVersion = CAPABILITY;
    return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int, size_t) {
    return *blocks = 2, cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, size_t, unsigned) {
    return *blocks = 2, cudaSuccess;
}
cudaError_t cudaLaunchKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t) { return launch(); }
cudaError_t cudaLaunchCooperativeKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t) { return launch(); }
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t*, const void*, void**) { return launch(); }
cudaError_t cudaKernelSetAttributeForDevice(cudaKernel_t, cudaFuncAttribute, int, int) { return cudaSuccess; }
cudaError_t cudaProfilerStart() { return cudaSuccess; }
cudaError_t cudaProfilerStop() { return cudaSuccess; }

// What nvcc's generated code calls: kernels are registered when a library is loaded, and <<<...>>> is a push, a pop and
// a launch.

cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, size_t, cudaStream_t) { return launch(); }
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* stub) {
    return *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(stub)), cudaSuccess;
}
unsigned __cudaPushCallConfiguration(dim3, dim3, size_t, void*) { return 0; }
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
    *grid = *block = dim3{1, 1, 1}, *shared = 0, *static_cast<void**>(stream) = nullptr;
    return cudaSuccess;
}
void** __cudaRegisterFatBinary(void*) {
    static void* handle[1];
    return handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char*, char*, const char*, int, uint3*, uint3*, dim3*, dim3*, int*) {}
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
char __cudaInitModule(void**) { return 1; }

// The driver, whose functions torch asks for by name

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
    static void* driver = dlopen("libcuda.so.1", RTLD_NOW);
    *function = driver ? dlsym(driver, name) : nullptr;
    if (!*function) *function = reinterpret_cast<void*>(driver_call);
    if (result) *result = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}

}  // extern "C"
