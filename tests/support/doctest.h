// The test framework; main() comes from tests/support/main.cpp.
#pragma once

#include <doctest/doctest.h>
