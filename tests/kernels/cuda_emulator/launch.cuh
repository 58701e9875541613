// Stands in for csrc/cuda/launch.cuh: runs CUDA kernels on the CPU, one block after the other, for tests without a GPU.
//
// Every thread of a block is a coroutine that runs until __syncthreads. A block in which some threads return while others
// wait at __syncthreads is refused: on a GPU that is undefined. Shared memory starts out as the last block left it.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __shared__ static

#include "lanes.h"
#include "torch_abi.h"

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace gcnn {

inline dim3 block_index, block_size, thread_index;

class Block {
 public:
  static void run(dim3 size, const std::function<void()>& thread) {
    Block block(size, thread);
    current_ = &block;
    for (std::size_t waiting = 0; block.alive_ > 0; waiting = 0) {
      for (std::size_t t = 0; t < block.fibres_.size(); ++t) {
        if (block.fibres_[t].done) continue;
        block.resume(t);
        waiting += !block.fibres_[t].done;
      }
      STD_TORCH_CHECK(waiting == block.alive_ && (waiting == 0 || waiting == block.fibres_.size()),
                      "some threads of a block left before others reached __syncthreads");
    }
  }

  static void sync() { swapcontext(&current_->fibres_[current_->running_].context, &current_->scheduler_); }

 private:
  struct Fibre {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    bool done = false;
  };

  Block(dim3 size, const std::function<void()>& thread)
      : size_(size), thread_(thread), fibres_(size.x * size.y * size.z), alive_(fibres_.size()) {
    for (Fibre& fibre : fibres_) {
      constexpr std::size_t kStack = 1 << 16;
      fibre.stack.reset(new char[kStack]);
      getcontext(&fibre.context);
      fibre.context.uc_stack.ss_sp = fibre.stack.get();
      fibre.context.uc_stack.ss_size = kStack;
      fibre.context.uc_link = &scheduler_;
      makecontext(&fibre.context, &Block::enter, 0);
    }
  }

  static void enter() {
    current_->thread_();
    current_->fibres_[current_->running_].done = true;
    --current_->alive_;
  }

  void resume(std::size_t t) {
    running_ = t;
    block_size = size_;
    thread_index = dim3(t % size_.x, t / size_.x % size_.y, t / size_.x / size_.y);
    swapcontext(&scheduler_, &fibres_[t].context);
  }

  static inline Block* current_ = nullptr;
  dim3 size_;
  const std::function<void()>& thread_;
  std::vector<Fibre> fibres_;
  std::size_t alive_, running_ = 0;
  ucontext_t scheduler_;
};

class Launch {
 public:
  explicit Launch(const torch::stable::Tensor&) {}

  template <typename... Parameters, typename... Arguments>
  void operator()(void (*kernel)(Parameters...), int64_t blocks, dim3 threads, Arguments... arguments) const {
    for (int64_t b = 0; b < blocks; ++b) {
      block_index = dim3(static_cast<unsigned>(b));
      Block::run(threads, [&] { kernel(arguments...); });
    }
  }
};

}  // namespace gcnn

#define blockIdx gcnn::block_index
#define blockDim gcnn::block_size
#define threadIdx gcnn::thread_index
#define __syncthreads gcnn::Block::sync
