// What a shared library shows of itself. A static one shows nothing more of itself when it is
// linked into another library.
#pragma once

#if defined(_WIN32) && defined(RAVINE_EXPORTS)
#define RAVINE_API __declspec(dllexport)
#elif defined(_WIN32) && defined(RAVINE_SHARED)
#define RAVINE_API __declspec(dllimport)
#elif defined(RAVINE_EXPORTS) || defined(RAVINE_SHARED)
#define RAVINE_API __attribute__((visibility("default")))
#else
#define RAVINE_API
#endif
