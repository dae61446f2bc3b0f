// Two CUDA devices that are not there, for torch's CPU build. A tensor of theirs has its values in the CPU's memory; what
// torch would run on a GPU comes to `run`, which counts it and has the CPU's kernel do it. What torch does above its
// kernels (autograd, autocast, views, moves between devices, refusals of mixed devices) is torch's own.

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <atomic>
#include <map>
#include <mutex>
#include <set>

namespace {

constexpr int DEVICES = 2;
const auto CUDA = c10::DeviceType::CUDA;
thread_local c10::DeviceIndex current = 0;

// --- what torch asks a device ---------------------------------------------------------------------

struct Guard final : c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA> {
  c10::Device getDevice() const override { return {CUDA, current}; }
  c10::Device exchangeDevice(c10::Device to) const override {
    c10::Device before(CUDA, current);
    current = to.index();
    return before;
  }
  void setDevice(c10::Device to) const override { current = to.index(); }
  void uncheckedSetDevice(c10::Device to) const noexcept override { current = to.index(); }
  c10::Stream getStream(c10::Device of) const noexcept override { return c10::Stream(c10::Stream::DEFAULT, of); }
  c10::Stream exchangeStream(c10::Stream of) const noexcept override { return c10::Stream(c10::Stream::DEFAULT, of.device()); }
  c10::DeviceIndex deviceCount() const noexcept override { return DEVICES; }
};

std::mutex lock;
std::set<const void*> pinned;

struct PinnedAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    c10::DataPtr found = c10::GetCPUAllocator()->allocate(bytes);
    auto* kept = new c10::DataPtr(std::move(found));
    std::lock_guard guard(lock);
    pinned.insert(kept->get());
    return {kept->get(), kept, &free, c10::DeviceType::CPU};
  }
  static void free(void* context) {
    auto* kept = static_cast<c10::DataPtr*>(context);
    {
      std::lock_guard guard(lock);
      pinned.erase(kept->get());
    }
    delete kept;
  }
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }
};

struct Hooks final : at::CUDAHooksInterface {
  explicit Hooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex current_device() const override { return current; }
  c10::DeviceIndex deviceCount() const override { return DEVICES; }
  int getNumGPUs() const override { return DEVICES; }
  c10::DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(c10::DeviceIndex to) const override { current = to; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex to) const override { return std::exchange(current, to); }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex to) const override { return std::exchange(current, to); }
  bool isPinnedPtr(const void* data) const override {
    std::lock_guard guard(lock);
    return pinned.count(data) > 0;
  }
  c10::Allocator* getPinnedMemoryAllocator() const override {
    static PinnedAllocator allocator;
    return &allocator;
  }
};

// --- counting -------------------------------------------------------------------------------------

std::map<std::string, long> launches;
std::atomic<long> doubles = 0;  // tensors of float64, which MPS does not have
bool capturing = false;
void (*on_wait)(const char*) = nullptr;
const std::set<std::string> NO_LAUNCH{
    "empty", "empty_strided", "as_strided", "view", "_reshape_alias", "alias", "unfold", "set_", "resize_",
    "_local_scalar_dense", "view_as_real", "view_as_complex", "is_set_to", "record_stream"};
// what a graph that is captured will do again
struct Recorded {
  c10::OperatorHandle op;
  std::vector<c10::IValue> arguments, results;
};
std::map<long, std::vector<Recorded>> graphs;
long recording = 0;  // the graph that is captured, from 1
std::map<void*, std::pair<c10::Storage, std::string>> before_capture;  // what was where: nothing is done while one captures
bool replaying = false;
// the size or the value of the result is asked of the device
const std::set<std::string> WAITING{
    "_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal", "bincount"};

void wait_for_device(const std::string& what) {
  TORCH_CHECK(!capturing, "operation not permitted when stream is capturing: ", what);
  if (on_wait) on_wait(what.c_str());
}

// --- kernels --------------------------------------------------------------------------------------

using Stack = torch::jit::Stack;

void drop(void* storage) { delete static_cast<c10::Storage*>(storage); }

// a storage over the same memory, which lives as long
c10::Storage shared(const c10::Storage& of, c10::Device where) {
  c10::DataPtr data(of.mutable_data(), new c10::Storage(of), &drop, where);
  return {c10::Storage::use_byte_size_t(), of.nbytes(), std::move(data), c10::GetCPUAllocator(), true};
}

struct Pair {
  at::Tensor here, cpu;
};

struct Call {
  std::vector<Pair> pairs;
  c10::Device device{CUDA, current};
  bool found = false;

  at::Tensor to_cpu(const at::Tensor& t) {
    if (!t.defined() || t.device().type() != CUDA) return t;
    if (!found) device = t.device();
    found = true;
    auto made = at::detail::make_tensor<c10::TensorImpl>(
        shared(t.storage(), c10::DeviceType::CPU), c10::DispatchKeySet(c10::DispatchKey::CPU), t.dtype());
    made.unsafeGetTensorImpl()->set_sizes_and_strides(t.sizes(), t.strides(), t.storage_offset());
    if (t.is_conj()) made._set_conj(true);
    if (t.is_neg()) made._set_neg(true);
    pairs.push_back({t, made});
    return made;
  }

  at::Tensor to_device(const at::Tensor& t) {
    if (!t.defined()) return t;
    if (t.scalar_type() == at::kDouble) doubles++;
    for (auto& pair : pairs) {
      if (pair.cpu.is_same(t)) return pair.here;
    }
    for (auto& pair : pairs) {  // a view
      if (!pair.cpu.storage().is_alias_of(t.storage())) continue;
      auto made = at::detail::make_tensor<c10::TensorImpl>(
          c10::TensorImpl::VIEW, c10::Storage(pair.here.storage()), pair.here.key_set(), t.dtype());
      made.unsafeGetTensorImpl()->set_sizes_and_strides(t.sizes(), t.strides(), t.storage_offset());
      return made;
    }
    auto made = at::detail::make_tensor<c10::TensorImpl>(
        shared(t.storage(), device), c10::DispatchKeySet(c10::DispatchKey::CUDA), t.dtype());
    made.unsafeGetTensorImpl()->set_sizes_and_strides(t.sizes(), t.strides(), t.storage_offset());
    return made;
  }

  // what was resized
  void write_back() {
    for (auto& [here, cpu] : pairs) {
      if (cpu.storage().data() != here.storage().data()) {
        auto* own = here.storage().unsafeGetStorageImpl();
        own->set_nbytes(cpu.storage().nbytes());
        own->set_data_ptr_noswap(
            c10::DataPtr(cpu.storage().mutable_data(), new c10::Storage(cpu.storage()), &drop, here.device()));
      }
      if (cpu.sizes() != here.sizes() || cpu.strides() != here.strides()) {
        here.unsafeGetTensorImpl()->set_sizes_and_strides(cpu.sizes(), cpu.strides(), cpu.storage_offset());
      }
    }
  }
};

c10::IValue each(const c10::IValue& value, const std::function<at::Tensor(const at::Tensor&)>& change) {
  if (value.isTensor()) return change(value.toTensor());
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor& t : value.toTensorVector()) list.push_back(change(t));
    return list;
  }
  if (value.isList()) {
    auto before = value.toList();
    if (!before.elementType()->isSubtypeOf(c10::OptionalType::ofTensor())) return value;
    c10::List<std::optional<at::Tensor>> list;
    for (const c10::IValue& item : before.vec()) {
      list.push_back(item.isTensor() ? std::optional<at::Tensor>(change(item.toTensor())) : std::nullopt);
    }
    return list;
  }
  return value;
}

// torch takes the tensors of a list one by one where they are not alike, or are whole numbers and the result is none
long kernels(const std::string& name, const Stack& arguments) {
  if (name.rfind("_foreach_", 0) != 0 || arguments.empty() || !arguments[0].isTensorList()) return 1;
  std::set<c10::ScalarType> types;
  long most = 1;
  const bool keeps = name == "_foreach_copy_" || name == "_foreach_add_" || name == "_foreach_mul_";
  for (const auto& argument : arguments) {
    if (!argument.isTensorList()) continue;
    auto tensors = argument.toTensorVector();
    most = std::max<long>(most, tensors.size());
    for (const auto& t : tensors) {
      if (!keeps && !at::isFloatingType(t.scalar_type())) return most;
      types.insert(t.scalar_type());
    }
  }
  return types.size() == 1 ? 1 : most;
}

void run(const c10::OperatorHandle& op, Stack* stack) {
  const auto& schema = op.schema();
  const std::string name = schema.name().substr(6);  // behind "aten::"
  const size_t count = schema.arguments().size(), first = stack->size() - count;
  Call call;
  Stack arguments;
  for (size_t i = 0; i < count; i++) {
    const c10::IValue& value = (*stack)[first + i];
    if (value.isDevice() && value.toDevice().type() == CUDA) {
      if (!call.found && value.toDevice().has_index()) call.device = value.toDevice();
      arguments.emplace_back(c10::Device(c10::DeviceType::CPU));
      continue;
    }
    arguments.push_back(each(value, [&](const at::Tensor& t) { return call.to_cpu(t); }));
  }
  for (const auto& pair : call.pairs) {
    TORCH_CHECK(name == "copy_" || pair.here.device() == call.device,
        "Expected all tensors to be on the same device, but found ", call.device, " and ", pair.here.device(), " in ", name);
  }
  if (name == "copy_") {
    at::Tensor to = (*stack)[first].toTensor(), from = (*stack)[first + 1].toTensor();
    const bool to_here = to.device().type() == CUDA, from_here = from.device().type() == CUDA;
    const auto& host = to_here ? from : to;
    const bool waits = to_here != from_here && !((*stack)[first + 2].toBool() && host.is_pinned());
    if (waits && to.numel()) wait_for_device(to_here ? "copy to the device" : "copy from the device");
  } else if (name == "index" || name == "index_put_" || name == "_index_put_impl_") {
    each((*stack)[first + 1], [](const at::Tensor& t) {
      const bool mask = t.defined() && (t.scalar_type() == at::kBool || t.scalar_type() == at::kByte);
      if (t.defined() && (mask || t.device().type() != CUDA)) wait_for_device(mask ? "mask as index" : "index on the CPU");
      return t;
    });
  } else {
    for (size_t i = 0; i < count; i++) {  // torch's own kernels take numbers from the CPU, but no tensors
      each((*stack)[first + i], [&](const at::Tensor& t) {
        const bool stranger = t.defined() && t.device().type() != CUDA && t.dim() > 0;
        TORCH_CHECK(!stranger || name == "_foreach_copy_",
            "Expected all tensors to be on the same device, but found ", call.device, " and ", t.device(), " in ", name);
        return t;
      });
    }
  }
  if (WAITING.count(name)) wait_for_device(name);
  if (!NO_LAUNCH.count(name) && !replaying && !capturing) {
    std::lock_guard guard(lock);
    launches[name] += kernels(name, arguments);
  }
  std::vector<c10::IValue> given;
  if (capturing) {
    given.assign(stack->end() - count, stack->end());
    for (const auto& pair : call.pairs) {
      const c10::Storage& storage = pair.here.storage();
      auto& [kept, bytes] = before_capture[storage.mutable_data()];
      if (kept) continue;
      kept = storage;
      bytes.assign(static_cast<const char*>(storage.data()), storage.nbytes());
    }
  }
  torch::jit::drop(*stack, count);
  for (auto& argument : arguments) stack->push_back(std::move(argument));
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  call.write_back();
  for (size_t i = stack->size() - schema.returns().size(); i < stack->size(); i++) {
    (*stack)[i] = each((*stack)[i], [&](const at::Tensor& t) { return call.to_device(t); });
  }
  if (capturing) {
    std::vector<c10::IValue> results(stack->end() - schema.returns().size(), stack->end());
    std::lock_guard guard(lock);
    graphs[recording].push_back({op, std::move(given), std::move(results)});
  }
}

// what was computed anew, into where it was put when the graph was captured; a view or a change in place is there
void put(const c10::IValue& from, const c10::IValue& to) {
  std::vector<at::Tensor> values;
  each(from, [&](const at::Tensor& t) { values.push_back(t); return t; });
  size_t next = 0;
  each(to, [&](const at::Tensor& t) {
    const at::Tensor& value = values[next++];
    if (t.defined() && t.storage().data() != value.storage().data()) {
      Call call;
      call.to_cpu(t).copy_(call.to_cpu(value));
    }
    return t;
  });
}

void set_storage(const c10::OperatorHandle& op, Stack* stack) {
  const size_t count = op.schema().arguments().size();
  auto arguments = torch::jit::last(*stack, count).vec();
  at::Tensor self = arguments[0].toTensor();
  c10::Storage source = arguments[1].toStorage();
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(source);
  if (count == 2) {
    impl->set_storage_offset(0);
    impl->set_sizes_contiguous({static_cast<int64_t>(source.nbytes() / self.itemsize())});
  } else {
    const auto sizes = arguments[3].toIntVector(), strides = arguments[4].toIntVector();
    if (strides.empty()) impl->set_sizes_contiguous(sizes);
    else impl->set_sizes_and_strides(sizes, strides);
    impl->set_storage_offset(arguments[2].toInt());
  }
  torch::jit::drop(*stack, count);
  stack->push_back(self);
}

// what has a kernel on real GPUs, though the CPU's build composes it of others or has none
bool composed(const std::string& name) {
  static const std::set<std::string> some{"aten::copy_", "aten::convolution", "aten::convolution_backward", "aten::native_dropout"};
  return name.rfind("aten::_foreach_", 0) == 0 || some.count(name);
}

std::vector<c10::RegistrationHandleRAII> registered;
std::string told;

}  // namespace

C10_REGISTER_GUARD_IMPL(CUDA, Guard)
namespace at {
C10_REGISTER_CLASS(CUDAHooksRegistry, CUDAHooks, Hooks)
}

extern "C" {

// once all of torch's operators are there
void install(void (*tell)(const char*)) {
  on_wait = tell;
  auto& dispatcher = c10::Dispatcher::singleton();
  for (const auto& name : dispatcher.getAllOpNames()) {
    auto op = dispatcher.findSchema(name);
    if (!op || name.name.rfind("aten::", 0) != 0 || op->hasKernelForDispatchKey(c10::DispatchKey::CUDA)) continue;
    if (!composed(name.name) && !op->hasKernelForDispatchKey(c10::DispatchKey::CPU)) continue;
    const bool of_storage = name.name == "aten::set_" && name.overload_name.rfind("source_Storage", 0) == 0;
    auto kernel = of_storage ? c10::KernelFunction::makeFromBoxedFunction<&set_storage>()
                             : c10::KernelFunction::makeFromBoxedFunction<&run>();
    registered.push_back(
        dispatcher.registerImpl(name, c10::DispatchKey::CUDA, std::move(kernel), std::nullopt, nullptr, ""));
  }
}

// returns the number of the graph
long start_capturing() {
  capturing = true;
  return ++recording;
}

void stop_capturing() {
  capturing = false;
  for (auto& [data, kept] : before_capture) std::copy(kept.second.begin(), kept.second.end(), static_cast<char*>(data));
  before_capture.clear();
}

void replay(long graph) {
  at::NoGradGuard no_gradients;
  replaying = true;
  launches["graph"]++;
  for (auto& each_of : graphs[graph]) {
    Stack stack(each_of.arguments.begin(), each_of.arguments.end());
    run(each_of.op, &stack);
    for (size_t i = 0; i < stack.size(); i++) put(stack[i], each_of.results[i]);
  }
  replaying = false;
}

void forget_graph(long graph) { graphs.erase(graph); }

void wait_now(const char* what) { wait_for_device(what); }

void forget() {
  std::lock_guard guard(lock);
  launches.clear();
}

long doubles_made() { return doubles; }

// "name count" a line
const char* launched() {
  std::lock_guard guard(lock);
  told.clear();
  for (const auto& [name, count] : launches) told += name + " " + std::to_string(count) + "\n";
  return told.c_str();
}
}
