/* Opens many streams through a gateway and looks at the time of every chunk.
 *
 *   streamload port=P request=FILE marker=TEXT streams=N ramp=S ramp_max=S seconds=S \
 *              [repeat=CHUNKS] [stall_ms=200]
 *
 * FILE holds one complete HTTP request, sent as it is. A chunk is an occurrence of MARKER in the
 * answer. The streams are opened evenly over `ramp` seconds. Without `repeat` each is held until
 * the end; with it, each ends after that many chunks (fewer is an error, and so is a missing
 * [DONE]) and is followed at once by the next one on the same connection.
 *
 * When every stream has had its first chunk (or after `ramp_max`) the line {"event":"steady"}
 * comes out and the window of `seconds` begins; at its end {"event":"end"}. Then we wait for a
 * line on stdin, so that the other side can look at the processor time while nothing has been
 * closed yet, and print one JSON object with all figures.
 */
#include "common.h"

#define HEAD_MAX 16384
#define LINE_MAX_BYTES 8192
#define GAP_STEP_NS 100000ull
#define GAP_STEPS 50000
#define RETRY_NS (SECOND / 10)

enum phase { CLOSED, CONNECTING, HEAD, BODY };
enum framing { BY_LENGTH, BY_CLOSE, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER };

struct stream {
    int fd;
    enum phase phase;
    enum framing framing;
    bool keep, done_seen, sampled, first_seen, stalled;
    uint32_t generation;
    size_t sent, head_length, line_length;
    long long left;
    long chunks;
    uint64_t asked, last;
    char head[HEAD_MAX];
    char line[LINE_MAX_BYTES];
};

static struct {
    int port;
    const char *marker;
    size_t marker_length;
    int streams;
    long repeat;
    uint64_t ramp, ramp_max, window, stall;
    char *request;
    size_t request_length;
} options = {.streams = 1, .stall = SECOND / 5};

static struct {
    long long chunks, bytes, finished, stalls, window_stalls, connects;
    long long bad_connect, bad_status, bad_end, bad_count;
    int last_status;
    uint64_t gap_max, window_gap_max;
} totals;

static struct stream *streams;
static int *owner; /* by file descriptor */
static struct agenda agenda;
static int poll_fd, with_first_chunk;
static bool steady;
static uint64_t steady_at;
static uint32_t *ttfts_us;
static size_t ttft_count, ttft_size;
static long long gaps[GAP_STEPS + 1];

static void reopen_later(struct stream *stream, uint64_t when) {
    agenda_add(&agenda, (struct moment){when, (int)(stream - streams), stream->generation});
}

static void drop(struct stream *stream) {
    if (stream->fd >= 0) close(stream->fd);
    stream->fd = -1;
    stream->phase = CLOSED;
    stream->generation++;
}

static void fail(struct stream *stream, long long *counter) {
    (*counter)++;
    drop(stream);
    if (options.repeat > 0) reopen_later(stream, now_ns() + RETRY_NS);
}

static void keep_ttft(uint64_t ttft) {
    if (ttft_count == ttft_size) {
        ttft_size = ttft_size ? ttft_size * 2 : 4096;
        ttfts_us = take(realloc(ttfts_us, ttft_size * sizeof *ttfts_us));
    }
    ttfts_us[ttft_count++] = (uint32_t)(ttft / 1000);
}

static void keep_gap(struct stream *stream, uint64_t gap) {
    uint64_t place = gap / GAP_STEP_NS;
    gaps[place < GAP_STEPS ? place : GAP_STEPS]++;
    if (gap > totals.gap_max) totals.gap_max = gap;
    if (steady && gap > totals.window_gap_max) totals.window_gap_max = gap;
    if (gap <= options.stall) return;
    totals.stalls++;
    totals.window_stalls += steady;
    stream->stalled = true;
}

static void on_chunk(struct stream *stream, uint64_t now) {
    totals.chunks++;
    if (stream->chunks++ == 0) {
        if (options.repeat == 0 || stream->sampled) keep_ttft(now - stream->asked);
        if (!stream->first_seen) with_first_chunk++;
        stream->first_seen = true;
    } else {
        keep_gap(stream, now - stream->last);
    }
    stream->last = now;
}

static void on_line(struct stream *stream, uint64_t now) {
    const char *at = stream->line, *end = stream->line + stream->line_length;
    while ((at = memmem(at, (size_t)(end - at), options.marker, options.marker_length)) != NULL) {
        on_chunk(stream, now);
        at += options.marker_length;
    }
    if (stream->line_length >= 12 && memcmp(stream->line, "data: [DONE]", 12) == 0) stream->done_seen = true;
    stream->line_length = 0;
}

static void on_body(struct stream *stream, const char *bytes, size_t length, uint64_t now) {
    while (length > 0) {
        const char *end = memchr(bytes, '\n', length);
        size_t part = end != NULL ? (size_t)(end - bytes) : length;
        size_t room = LINE_MAX_BYTES - stream->line_length;
        size_t kept = part < room ? part : room;
        memcpy(stream->line + stream->line_length, bytes, kept);
        stream->line_length += kept;
        if (end == NULL) return;
        on_line(stream, now);
        bytes += part + 1;
        length -= part + 1;
    }
}

static void ask(struct stream *stream) {
    stream->sent = stream->head_length = stream->line_length = 0;
    stream->chunks = 0;
    stream->done_seen = false;
    stream->asked = now_ns();
    stream->sampled = steady;
    stream->phase = HEAD;
    ssize_t count = send(stream->fd, options.request, options.request_length, MSG_NOSIGNAL);
    if (count != (ssize_t)options.request_length) fail(stream, &totals.bad_connect);
}

static void finish(struct stream *stream) {
    totals.finished++;
    if (options.repeat == 0) { /* a held stream does not end by itself */
        fail(stream, &totals.bad_end);
        return;
    }
    if (stream->chunks != options.repeat || !stream->done_seen) {
        fail(stream, &totals.bad_count);
        return;
    }
    if (stream->keep) {
        ask(stream);
    } else {
        drop(stream);
        reopen_later(stream, now_ns());
    }
}

/* The framing of a chunked body, one byte at a time outside the data. True when it is over. */
static bool on_frame_byte(struct stream *stream, char byte) {
    switch (stream->framing) {
    case CHUNK_SIZE:
        if (byte != '\n') {
            if (stream->head_length < HEAD_MAX - 1) stream->head[stream->head_length++] = byte;
            return false;
        }
        stream->head[stream->head_length] = 0;
        stream->head_length = 0;
        stream->left = strtoll(stream->head, NULL, 16);
        stream->framing = stream->left > 0 ? CHUNK_DATA : TRAILER;
        return false;
    case CHUNK_END:
        if (byte == '\n') stream->framing = CHUNK_SIZE;
        return false;
    default: /* the trailer ends with an empty line */
        if (byte == '\r') return false;
        if (byte == '\n' && stream->head_length == 0) return true;
        stream->head_length = byte == '\n' ? 0 : 1;
        return false;
    }
}

static void on_bytes(struct stream *stream, const char *bytes, size_t length, uint64_t now) {
    while (length > 0) {
        if (stream->framing != BY_CLOSE && stream->framing != BY_LENGTH && stream->framing != CHUNK_DATA) {
            bool over = on_frame_byte(stream, *bytes);
            bytes++;
            length--;
            if (over) {
                finish(stream);
                return;
            }
            continue;
        }
        size_t part = length;
        if (stream->framing != BY_CLOSE && (long long)part > stream->left) part = (size_t)stream->left;
        on_body(stream, bytes, part, now);
        bytes += part;
        length -= part;
        stream->left -= (long long)part;
        if (stream->left > 0 || stream->framing == BY_CLOSE) continue;
        if (stream->framing == BY_LENGTH) {
            finish(stream);
            return;
        }
        stream->framing = CHUNK_END;
    }
}

static bool read_head(struct stream *stream, size_t end) {
    stream->head[end] = 0;
    totals.last_status = atoi(stream->head + 9);
    stream->framing = BY_CLOSE;
    stream->keep = true;
    for (char *line = stream->head; (line = strstr(line, "\r\n")) != NULL;) {
        line += 2;
        if (strncasecmp(line, "transfer-encoding: chunked", 26) == 0) stream->framing = CHUNK_SIZE;
        if (strncasecmp(line, "connection: close", 17) == 0) stream->keep = false;
        if (strncasecmp(line, "content-length:", 15) == 0) {
            stream->framing = BY_LENGTH;
            stream->left = atoll(line + 15);
        }
    }
    return totals.last_status == 200;
}

static void on_head(struct stream *stream, const char *bytes, size_t length, uint64_t now) {
    size_t room = HEAD_MAX - 1 - stream->head_length, kept = length < room ? length : room;
    memcpy(stream->head + stream->head_length, bytes, kept);
    size_t before = stream->head_length;
    stream->head_length += kept;
    char *end = memmem(stream->head, stream->head_length, "\r\n\r\n", 4);
    if (end == NULL) {
        if (stream->head_length == HEAD_MAX - 1) fail(stream, &totals.bad_status);
        return;
    }
    size_t head_size = (size_t)(end - stream->head) + 4;
    if (!read_head(stream, head_size - 2)) {
        fail(stream, &totals.bad_status);
        return;
    }
    stream->phase = BODY;
    stream->head_length = 0;
    size_t used = head_size - before;
    on_bytes(stream, bytes + used, length - used, now);
}

static void read_stream(struct stream *stream) {
    static char buffer[262144];
    ssize_t count = recv(stream->fd, buffer, sizeof buffer, 0);
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) {
        if (stream->phase == BODY && stream->framing == BY_CLOSE && options.repeat > 0) {
            stream->keep = false;
            finish(stream);
        } else {
            fail(stream, &totals.bad_end);
        }
        return;
    }
    totals.bytes += count;
    if (stream->phase == HEAD)
        on_head(stream, buffer, (size_t)count, now_ns());
    else
        on_bytes(stream, buffer, (size_t)count, now_ns());
}

static void open_stream(struct stream *stream) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    stream->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (stream->fd < 0 || stream->fd >= FDS_MAX) die("socket");
    no_delay(stream->fd);
    owner[stream->fd] = (int)(stream - streams);
    stream->phase = CONNECTING;
    totals.connects++;
    if (connect(stream->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) {
        fail(stream, &totals.bad_connect);
        return;
    }
    watch(poll_fd, EPOLL_CTL_ADD, stream->fd, EPOLLOUT);
}

static void on_event(const struct epoll_event *event) {
    struct stream *stream = &streams[owner[event->data.fd]];
    if (stream->fd != event->data.fd) return;
    if (stream->phase != CONNECTING) {
        read_stream(stream);
        return;
    }
    if (event->events & (EPOLLERR | EPOLLHUP)) {
        fail(stream, &totals.bad_connect);
        return;
    }
    watch(poll_fd, EPOLL_CTL_MOD, stream->fd, EPOLLIN);
    ask(stream);
}

static void run_due(void) {
    while (agenda.count > 0 && agenda.at[0].due <= now_ns()) {
        struct moment moment = agenda_pop(&agenda);
        struct stream *stream = &streams[moment.owner];
        if (stream->phase == CLOSED && stream->generation == moment.generation) open_stream(stream);
    }
}

static int by_size(const void *a, const void *b) {
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static double ttft_ms(double share) {
    if (ttft_count == 0) return -1;
    return ttfts_us[(size_t)(share * (double)(ttft_count - 1) + 0.5)] / 1000.0;
}

static double gap_ms(double share) {
    long long all = 0, seen = 0;
    for (int i = 0; i <= GAP_STEPS; i++) all += gaps[i];
    for (int i = 0; i <= GAP_STEPS; i++) {
        seen += gaps[i];
        if (all > 0 && (double)seen >= share * (double)all) return i * (double)GAP_STEP_NS / 1e6;
    }
    return -1;
}

static void report(long long window_chunks, double window_s, int open) {
    int stalled = 0;
    for (int i = 0; i < options.streams; i++) stalled += streams[i].stalled;
    qsort(ttfts_us, ttft_count, sizeof *ttfts_us, by_size);
    printf("{\"window_chunks\":%lld,\"window_s\":%.6f,\"open\":%d,\"chunks\":%lld,\"bytes\":%lld,"
           "\"finished\":%lld,\"connects\":%lld,",
           window_chunks, window_s, open, totals.chunks, totals.bytes, totals.finished, totals.connects);
    printf("\"errors\":{\"connect\":%lld,\"status\":%lld,\"early_end\":%lld,\"wrong_count\":%lld},"
           "\"last_status\":%d,",
           totals.bad_connect, totals.bad_status, totals.bad_end, totals.bad_count, totals.last_status);
    printf("\"ttft_ms\":{\"p50\":%.3f,\"p99\":%.3f,\"max\":%.3f,\"count\":%zu},", ttft_ms(0.5),
           ttft_ms(0.99), ttft_ms(1), ttft_count);
    printf("\"gap_ms\":{\"p50\":%.1f,\"p99\":%.1f,\"max\":%.3f,\"window_max\":%.3f},", gap_ms(0.5),
           gap_ms(0.99), (double)totals.gap_max / 1e6, (double)totals.window_gap_max / 1e6);
    printf("\"stalls\":%lld,\"window_stalls\":%lld,\"stalled_streams\":%d}\n", totals.stalls,
           totals.window_stalls, stalled);
}

static void begin_window(void) {
    steady = true;
    steady_at = now_ns();
    printf("{\"event\":\"steady\",\"streams\":%d}\n", with_first_chunk);
    fflush(stdout);
}

/* Looks at the streams that are silent now: a stall that has not ended is a stall too, and a
 * first token that has not come counts with the time it has been waited for. */
static int close_accounts(uint64_t now) {
    int open = 0;
    for (int i = 0; i < options.streams; i++) {
        struct stream *stream = &streams[i];
        if ((stream->phase == HEAD || stream->phase == BODY) && stream->chunks == 0) keep_ttft(now - stream->asked);
        if (stream->phase != BODY) continue;
        open++;
        if (stream->chunks > 0 && now - stream->last > options.stall) keep_gap(stream, now - stream->last);
    }
    return open;
}

static void run(void) {
    uint64_t began = now_ns(), deadline = began + options.ramp_max;
    long long chunks_before = 0;
    struct epoll_event events[512];
    for (;;) {
        uint64_t now = now_ns();
        if (!steady && (now >= deadline || (with_first_chunk == options.streams && now >= began + options.ramp))) {
            begin_window();
            chunks_before = totals.chunks;
            deadline = now + options.window;
        } else if (steady && now >= deadline) {
            break;
        }
        uint64_t due = deadline;
        if (agenda.count > 0 && agenda.at[0].due < due) due = agenda.at[0].due;
        int count = wait_until(poll_fd, events, 512, due);
        for (int i = 0; i < count; i++) on_event(&events[i]);
        run_due();
    }
    uint64_t ended = now_ns();
    long long window_chunks = totals.chunks - chunks_before;
    printf("{\"event\":\"end\"}\n");
    fflush(stdout);
    getchar();
    report(window_chunks, (double)(ended - steady_at) / 1e9, close_accounts(ended));
}

static void load_request(const char *name) {
    FILE *file = fopen(name, "r");
    if (file == NULL) die(name);
    options.request = take(malloc(65536));
    options.request_length = fread(options.request, 1, 65536, file);
    fclose(file);
}

static uint64_t seconds(const char *text) { return (uint64_t)(atof(text) * (double)SECOND); }

static void set_option(const char *name, const char *value) {
    if (strcmp(name, "port") == 0) options.port = atoi(value);
    else if (strcmp(name, "request") == 0) load_request(value);
    else if (strcmp(name, "marker") == 0) options.marker = value;
    else if (strcmp(name, "streams") == 0) options.streams = atoi(value);
    else if (strcmp(name, "ramp") == 0) options.ramp = seconds(value);
    else if (strcmp(name, "ramp_max") == 0) options.ramp_max = seconds(value);
    else if (strcmp(name, "seconds") == 0) options.window = seconds(value);
    else if (strcmp(name, "repeat") == 0) options.repeat = atol(value);
    else if (strcmp(name, "stall_ms") == 0) options.stall = (uint64_t)(atof(value) * 1e6);
    else {
        fprintf(stderr, "unknown option %s\n", name);
        exit(2);
    }
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    for (int i = 1; i < argc; i++) {
        char *equals = strchr(argv[i], '=');
        if (equals == NULL) continue;
        *equals = 0;
        set_option(argv[i], equals + 1);
    }
    if (options.request == NULL || options.marker == NULL || options.port == 0) {
        fprintf(stderr, "port, request and marker are needed\n");
        return 2;
    }
    options.marker_length = strlen(options.marker);
    streams = take(calloc((size_t)options.streams, sizeof *streams));
    owner = take(calloc(FDS_MAX, sizeof *owner));
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    uint64_t now = now_ns();
    for (int i = 0; i < options.streams; i++) {
        streams[i].fd = -1;
        reopen_later(&streams[i], now + options.ramp * (uint64_t)i / (uint64_t)options.streams);
    }
    run();
    return 0;
}
