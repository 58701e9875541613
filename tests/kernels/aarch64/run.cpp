// Runs the operator that is named: arguments from standard input, all tensors, or the text that it gives, to standard output.

#include "torch_abi.h"

int main(int, char** arguments) {
  std::ios::sync_with_stdio(false);
  try {
    Call call(std::cin, std::cout);
    operators().at(arguments[1])(call);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
