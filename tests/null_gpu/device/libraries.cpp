// cuBLAS, cuDNN and NCCL: those of their functions that have to answer more than "done", which every other one answers.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "counters.h"

namespace {

constexpr int DONE = 0;
constexpr int CUDNN_TYPE_BACKEND_DESCRIPTOR = 15;
constexpr size_t HANDLE = 1024;  // larger than any of theirs
constexpr size_t KEPT = 1 << 20;  // as of copies: what a collective moves beyond is not moved

int create(void** handle) { return *handle = calloc(1, HANDLE), DONE; }
int destroy(void* handle) { return free(handle), DONE; }

struct Rank {
    int ranks, rank;
};

// ncclDataType_t: int8, uint8, int32, uint32, int64, uint64, float16, float32, float64, bfloat16, two of 8 bits
size_t bytes_of(size_t count, int type) {
    constexpr int SIZES[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
    return count * SIZES[type];
}

// Every other rank is taken to have sent what this one sends: there is no other process's memory to look into.
int collective(void* to, const void* from, size_t bytes, int copies) {
    counters.collectives++;
    for (int i = 0; i < copies && bytes <= KEPT; i++) memmove(static_cast<char*>(to) + i * bytes, from, bytes);
    return DONE;
}

}  // namespace

extern "C" {

int cublasCreate_v2(void** handle) { return create(handle); }
int cublasDestroy_v2(void* handle) { return destroy(handle); }
int cublasGetMathMode(void*, int* mode) { return *mode = 0, DONE; }
int cublasGetPointerMode_v2(void*, int* mode) { return *mode = 0, DONE; }
int cublasLtMatmulDescCreate(void** descriptor, int, int) { return create(descriptor); }
int cublasLtMatmulDescDestroy(void* descriptor) { return destroy(descriptor); }
int cublasLtMatmulPreferenceCreate(void** preference) { return create(preference); }
int cublasLtMatmulPreferenceDestroy(void* preference) { return destroy(preference); }
int cublasLtMatrixLayoutCreate(void** layout, int, uint64_t, uint64_t, int64_t) { return create(layout); }
int cublasLtMatrixLayoutDestroy(void* layout) { return destroy(layout); }
// One algorithm, which needs no workspace: cublasLtMatmulHeuristicResult_t with zeros.
int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int, void* results, int* found) {
    return memset(results, 0, 104), *found = 1, DONE;
}

int cudnnCreate(void** handle) { return create(handle); }
int cudnnGetStream(void*, void** stream) { return *stream = nullptr, DONE; }
int cudnnCreateTensorDescriptor(void** descriptor) { return create(descriptor); }
int cudnnDestroyTensorDescriptor(void* descriptor) { return destroy(descriptor); }
int cudnnCreateFilterDescriptor(void** descriptor) { return create(descriptor); }
int cudnnDestroyFilterDescriptor(void* descriptor) { return destroy(descriptor); }
int cudnnBackendCreateDescriptor(int, void** descriptor) { return create(descriptor); }
int cudnnBackendDestroyDescriptor(void* descriptor) { return destroy(descriptor); }
// Of engines there is one, and of every number, its workspace among them, the value is 0.
int cudnnBackendGetAttribute(void*, int, int type, int64_t asked, int64_t* found, void* values) {
    bool descriptor = type == CUDNN_TYPE_BACKEND_DESCRIPTOR;
    if (found) *found = descriptor;  // also when only their number is asked for
    if (values && asked > 0 && !descriptor) memset(values, 0, 8);
    return DONE;
}

struct NcclId {
    char bytes[128];
};

int ncclGetVersion(int* version) { return *version = 23007, DONE; }
const char* ncclGetErrorString(int) { return "an error of the null GPU"; }
const char* ncclGetLastError(void*) { return ""; }
int ncclGetUniqueId(NcclId* id) { return memset(id, 7, sizeof *id), DONE; }
int ncclCommInitRank(Rank** rank, int ranks, NcclId, int number) { return *rank = new Rank{ranks, number}, DONE; }
int ncclCommInitRankConfig(Rank** rank, int ranks, NcclId id, int number, void*) {
    return ncclCommInitRank(rank, ranks, id, number);
}
int ncclCommCount(const Rank* rank, int* ranks) { return *ranks = rank->ranks, DONE; }
int ncclCommUserRank(const Rank* rank, int* number) { return *number = rank->rank, DONE; }
int ncclCommGetAsyncError(void*, int* error) { return *error = 0, DONE; }
int ncclAllGather(const void* from, void* to, size_t count, int type, const Rank* rank, void*) {
    return collective(to, from, bytes_of(count, type), rank->ranks);
}
int ncclAllReduce(const void* from, void* to, size_t count, int type, int, const Rank*, void*) {
    return collective(to, from, bytes_of(count, type), 1);
}
int ncclBroadcast(const void* from, void* to, size_t count, int type, int, const Rank*, void*) {
    return collective(to, from, bytes_of(count, type), 1);
}
int ncclReduceScatter(const char* from, void* to, size_t count, int type, int, const Rank* rank, void*) {
    return collective(to, from + rank->rank * bytes_of(count, type), bytes_of(count, type), 1);
}

}  // extern "C"
