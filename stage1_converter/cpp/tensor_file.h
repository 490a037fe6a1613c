// Shapes and files for a C++ program around an engine. Standard C++17 only: it compiles without TensorRT and CUDA.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

using Shape = std::vector<std::int64_t>;

// What every error of this program is: what failed, and what to do next.
struct Failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// "4x3x224x224" for people.
inline std::string to_text(const Shape& shape) {
    std::string text;
    for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? "x" : "") + std::to_string(shape[i]);
    return text.empty() ? "scalar" : text;
}

// How many values a shape holds. An empty shape is a scalar: 1.
// The product is made in 64 bits: four frames of 4K video in float32 already pass 2^31 bytes, where int wraps around.
inline std::size_t volume(const Shape& shape) {
    std::size_t product = 1;
    for (const std::int64_t side : shape) {
        if (side < 0) throw Failure("The shape " + to_text(shape) + " has an open side. Give every side a number.");
        if (side && product > std::numeric_limits<std::size_t>::max() / static_cast<std::size_t>(side))
            throw Failure("The shape " + to_text(shape) + " is larger than any memory. Check its sides.");
        product *= static_cast<std::size_t>(side);
    }
    return product;
}

// The inverse of to_text.
inline Shape parse_shape(const std::string& text) {
    Shape shape;
    std::size_t start = 0;
    while (start <= text.size()) {
        const std::size_t end = std::min(text.find('x', start), text.size());
        const std::string side = text.substr(start, end - start);
        if (side.empty() || side.size() > 12 || side.find_first_not_of("0123456789") != std::string::npos)
            throw Failure("'" + text + "' is no shape. Write it like 4x3x224x224.");
        shape.push_back(std::stoll(side));
        start = end + 1;
    }
    return shape;
}

// A whole file. std::ios::binary keeps Windows from changing line ends inside the data.
inline std::vector<char> read_bytes(const std::string& path) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file || std::filesystem::is_directory(path))
        throw Failure(path + " is no file that can be read. Check the path.");
    const std::streamoff size = file.tellg();
    std::vector<char> bytes(static_cast<std::size_t>(size));
    file.seekg(0);
    if (size && !file.read(bytes.data(), size)) throw Failure(path + " could not be read to its end. Check the disk.");
    return bytes;
}

// Raw float32 values in the machine's own byte order, as numpy.ndarray.tofile writes them.
inline std::vector<float> read_floats(const std::string& path, const Shape& shape) {
    const std::vector<char> bytes = read_bytes(path);
    const std::size_t needed = volume(shape) * sizeof(float);
    if (bytes.size() != needed)
        throw Failure(path + " has " + std::to_string(bytes.size()) + " bytes; float32 " + to_text(shape) + " needs " +
                      std::to_string(needed) + ". Check the shape, and that the file holds float32.");
    std::vector<float> values(volume(shape));
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(values.data()));
    return values;
}

// Writes beside the file and renames at the end: a reader never sees half of it.
inline void write_floats(const std::string& path, const float* values, std::size_t count) {
    const std::string partial = path + ".partial";
    std::ofstream file(partial, std::ios::binary);
    file.write(reinterpret_cast<const char*>(values), static_cast<std::streamsize>(count * sizeof(float)));
    file.close();
    if (!file || std::rename(partial.c_str(), path.c_str()) != 0) {
        std::remove(partial.c_str());
        throw Failure(path + " cannot be written. Check the folder and the free space.");
    }
}
