// TensorRT's libraries that do nothing, for its real Python bindings. Those turn Python's arguments into C++'s and call
// virtual functions of what create..._INTERNAL returns: here an object that stands for an object of any class. All its
// functions return its address, of which the lower half is N = 65537 or 131073, and the bindings take that for
//
//     another object, through which they go on;      true (the lowest byte is 1);
//     the name "x" (the object's first two bytes);   a number of inputs, of tensors or of bytes: N.
//
// Only the fifth function differs: of IHostMemory it is the type of its bytes, for which N is none, and of ICudaEngine
// what makes an IHostMemory. What returns a structure (get_tensor_shape) cannot be called.
#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <typeinfo>

namespace {
constexpr uintptr_t REGION = 0x10000, SIZE = 0xc0000;  // IHostMemory's N floats end at 0xa0005
constexpr uintptr_t RUNNING = 0x10001, BUILDING = 0x20001;
constexpr uintptr_t FUNCTIONS = 0xa0077;  // where they begin, from there: an object's first bytes are then "x", 0
constexpr int COUNT = 512;                // more virtual functions than any interface has

struct Anything {
    virtual ~Anything() {}
};

uintptr_t running() { return RUNNING; }
uintptr_t building() { return BUILDING; }
uintptr_t zero() { return 0; }

void make(uintptr_t address, uintptr_t (*function)(), uintptr_t (*fifth)()) {
    auto* object = reinterpret_cast<uintptr_t*>(address);
    auto* functions = reinterpret_cast<uintptr_t*>(address + FUNCTIONS);
    functions[-2] = 0;                                               // the whole object begins at its address
    functions[-1] = reinterpret_cast<uintptr_t>(&typeid(Anything));  // of no class that the bindings know
    for (int i = 0; i < COUNT; i++) functions[i] = reinterpret_cast<uintptr_t>(i == 4 ? fifth : function);
    object[0] = address + FUNCTIONS;
    object[1] = address;  // TensorRT's classes forward to an implementation
}

void* object(uintptr_t address) {
    static const bool made = [] {
        void* there = mmap(reinterpret_cast<void*>(REGION), SIZE, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (there == MAP_FAILED) perror("memory at 0x10000"), abort();
        make(RUNNING, running, building);
        make(BUILDING, building, zero);
        return true;
    }();
    return made ? reinterpret_cast<void*>(address) : nullptr;
}
}  // namespace

extern "C" {
void* createInferBuilder_INTERNAL() { return object(BUILDING); }
void* createNvOnnxParser_INTERNAL() { return object(BUILDING); }
void* createInferRuntime_INTERNAL() { return object(RUNNING); }
void* createInferRefitter_INTERNAL() { return object(RUNNING); }
void* createNvOnnxParserRefitter_INTERNAL() { return object(RUNNING); }
void* getBuilderPluginRegistry() { return object(BUILDING); }
void* getPluginRegistry() { return object(BUILDING); }
bool initLibNvInferPlugins() { return true; }
int getNvOnnxParserVersion() { return 0; }
}
