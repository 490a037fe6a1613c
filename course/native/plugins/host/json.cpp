// Words to the loader: one JSON object a line.
#include "host.h"
#include <cstdio>
#include <unistd.h>

namespace host {
static int replyFile = -1;

std::string quoted(const std::string& text)
{
    std::string out = "\"";
    for (unsigned char c : text) {
        if (c == '"' || c == '\\') { out += '\\'; out += char(c); }
        else if (c < 0x20 || c >= 0x7f) { char escape[8]; snprintf(escape, sizeof escape, "\\u%04x", c); out += escape; }
        else out += char(c);
    }
    return out + "\"";
}
std::string text(const char* learners)
{
    std::string copy;
    constexpr size_t most = 1000;
    for (; learners && *learners && copy.size() < most; ++learners) copy += *learners;
    return copy;
}
Json& Json::raw(const char* key, const std::string& value)
{
    text += (text.empty() ? "\"" : ",\"") + std::string(key) + "\":" + value;
    return *this;
}
Json& Json::str(const char* key, const std::string& value) { return raw(key, quoted(value)); }
Json& Json::num(const char* key, long long value) { return raw(key, std::to_string(value)); }

void tell(const std::string& json)
{
    std::string line = json + "\n";
    for (size_t at = 0; at < line.size();) {
        ssize_t n = write(replyFile, line.data() + at, line.size() - at);
        if (n <= 0) return;
        at += size_t(n);
    }
}
void lastWords(const std::string& json)
{
    tell(json);
    std::fflush(stdout);
    _exit(3);
}
} // namespace host

extern "C" void plug_reply_to(int file) { host::replyFile = file; }
