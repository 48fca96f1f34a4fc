/* A model server that is not one: it streams prepared chunks to thousands of connections.
 *
 *   streammock ANSWERS PORT...
 *
 * ANSWERS is a file of lines "NAME TEXT". A NAME that is a path ("/api/tags") is answered with
 * TEXT; `sse-chunk`, `sse-end`, `ndjson-chunk` and `ndjson-end` are the pieces of a stream. What
 * a stream does is said by the request itself, in the text of its message, because every gateway
 * relays that untouched: "bench chunks=400 rate=20" asks for 400 chunks, 20 a second, the first at
 * once. Rate 0 is as fast as the reader takes them.
 *
 * GET /bench/stats answers with counters and sets them back: `late_ns_max` is by how much the
 * mock itself was late with a chunk whose reader was ready. That is its own headroom.
 */
#include "common.h"

#define INPUT_MAX 32768
#define BATCH 64
#define ANSWERS_MAX 64
#define PORTS_MAX 16

struct text {
    char *bytes;
    size_t length;
};

struct answer {
    char *path;
    struct text response;
};

struct flavour { /* everything a stream of one kind is made of, framed and ready to write */
    size_t chunk_length;
    struct text opening, batch, ending;
};

struct stream {
    const struct flavour *flavour;
    long chunks, sent;
    uint64_t interval, due;
    bool active, ending;
};

struct connection {
    uint32_t generation;
    bool open, wants_out;
    size_t input_length;
    const char *out;
    size_t out_length;
    struct stream stream;
    char *input;
};

static struct connection connections[FDS_MAX];
static bool listening[FDS_MAX];
static struct answer answers[ANSWERS_MAX];
static size_t answer_count;
static struct flavour sse, ndjson;
static struct text not_found, stats;
static struct agenda agenda;
static int poll_fd;
static long long open_streams, started, finished, aborted, chunks_sent, blocked;
static uint64_t late_max;

static struct text text_of(const char *bytes, size_t length) {
    struct text text = {take(malloc(length + 1)), length};
    memcpy(text.bytes, bytes, length);
    text.bytes[length] = 0;
    return text;
}

static struct text response_of(const char *status, const char *body) {
    char *bytes;
    int length = asprintf(&bytes,
                          "HTTP/1.1 %s\r\nContent-Type: application/json\r\n"
                          "Content-Length: %zu\r\n\r\n%s",
                          status, strlen(body), body);
    if (length < 0) die("asprintf");
    return (struct text){bytes, (size_t)length};
}

static struct text framed(const char *body) { /* one chunk of `Transfer-Encoding: chunked` */
    char *bytes;
    int length = asprintf(&bytes, "%zx\r\n%s\r\n", strlen(body), body);
    if (length < 0) die("asprintf");
    return (struct text){bytes, (size_t)length};
}

static struct text joined(struct text a, struct text b) {
    struct text both = {take(malloc(a.length + b.length + 1)), a.length + b.length};
    memcpy(both.bytes, a.bytes, a.length);
    memcpy(both.bytes + a.length, b.bytes, b.length + 1);
    return both;
}

static const char *piece(const char *name) {
    for (size_t i = 0; i < answer_count; i++)
        if (strcmp(answers[i].path, name) == 0) return strstr(answers[i].response.bytes, "\r\n\r\n") + 4;
    fprintf(stderr, "no %s among the answers\n", name);
    exit(2);
}

static void load_answers(const char *file_name) {
    FILE *file = fopen(file_name, "r");
    if (file == NULL) die(file_name);
    char *line = NULL;
    size_t size = 0;
    while (answer_count < ANSWERS_MAX && getline(&line, &size, file) > 0) {
        line[strcspn(line, "\n")] = 0;
        char *space = strchr(line, ' ');
        if (space == NULL) continue;
        *space = 0;
        answers[answer_count++] = (struct answer){take(strdup(line)), response_of("200 OK", space + 1)};
    }
    free(line);
    fclose(file);
}

/* Puts two digits in place of "@@": LiteLLM ends a stream whose chunks are all the same. */
static const char *numbered(const char *chunk, int number) {
    char *copy = take(strdup(chunk)), *place = strstr(copy, "@@");
    if (place != NULL) {
        place[0] = (char)('0' + number / 10);
        place[1] = (char)('0' + number % 10);
    }
    return copy;
}

static void make_flavour(struct flavour *flavour, const char *type, const char *chunk, const char *end) {
    char head[256];
    int length = snprintf(head, sizeof head,
                          "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n", type);
    flavour->batch = text_of("", 0);
    for (int i = 0; i < BATCH; i++) flavour->batch = joined(flavour->batch, framed(numbered(chunk, i)));
    flavour->chunk_length = flavour->batch.length / BATCH;
    flavour->opening = joined(text_of(head, (size_t)length), text_of(flavour->batch.bytes, flavour->chunk_length));
    flavour->ending = joined(framed(end), text_of("0\r\n\r\n", 5));
}

static void make_flavours(void) {
    char *chunk, *end;
    if (asprintf(&chunk, "data: %s\n\n", piece("sse-chunk")) < 0) die("asprintf");
    if (asprintf(&end, "data: %s\n\ndata: [DONE]\n\n", piece("sse-end")) < 0) die("asprintf");
    make_flavour(&sse, "text/event-stream", chunk, end);
    if (asprintf(&chunk, "%s\n", piece("ndjson-chunk")) < 0) die("asprintf");
    if (asprintf(&end, "%s\n", piece("ndjson-end")) < 0) die("asprintf");
    make_flavour(&ndjson, "application/x-ndjson", chunk, end);
}

static void close_connection(int fd) {
    struct connection *connection = &connections[fd];
    if (connection->stream.active) {
        open_streams--;
        aborted++;
    }
    connection->open = false;
    connection->generation++;
    connection->stream.active = false;
    close(fd);
}

static void want_out(int fd, bool wanted) {
    struct connection *connection = &connections[fd];
    if (connection->wants_out == wanted) return;
    connection->wants_out = wanted;
    watch(poll_fd, EPOLL_CTL_MOD, fd, EPOLLIN | (wanted ? EPOLLOUT : 0));
}

/* Writes what is left; true when all of it went out. May close the connection. */
static bool flush(int fd) {
    struct connection *connection = &connections[fd];
    while (connection->out_length > 0) {
        ssize_t written = send(fd, connection->out, connection->out_length, MSG_NOSIGNAL);
        if (written < 0) {
            if (errno == EAGAIN) break;
            close_connection(fd);
            return false;
        }
        connection->out += written;
        connection->out_length -= (size_t)written;
    }
    if (connection->out_length > 0) blocked++;
    want_out(fd, connection->out_length > 0);
    return connection->out_length == 0;
}

static bool send_text(int fd, const char *bytes, size_t length) {
    connections[fd].out = bytes;
    connections[fd].out_length = length;
    return flush(fd);
}

/* One step of a stream; false when it has to wait for the reader, for its time, or is over. */
static bool step(int fd, uint64_t now) {
    struct connection *connection = &connections[fd];
    struct stream *stream = &connection->stream;
    const struct flavour *flavour = stream->flavour;
    if (stream->ending) {
        stream->active = stream->ending = false;
        open_streams--;
        finished++;
        return false;
    }
    if (stream->sent > 0 && stream->interval > 0) {
        if (now < stream->due) {
            agenda_add(&agenda, (struct moment){stream->due, fd, connection->generation});
            return false;
        }
        if (now - stream->due > late_max) late_max = now - stream->due;
        stream->due += stream->interval;
    }
    if (stream->sent == stream->chunks) {
        stream->ending = true;
        return send_text(fd, flavour->ending.bytes, flavour->ending.length);
    }
    if (stream->sent == 0) {
        stream->sent = 1;
        stream->due = now + stream->interval;
        chunks_sent++;
        return send_text(fd, flavour->opening.bytes, flavour->opening.length);
    }
    long count = stream->interval > 0 ? 1 : stream->chunks - stream->sent;
    long first = stream->sent % BATCH;
    if (count > BATCH - first) count = BATCH - first;
    stream->sent += count;
    chunks_sent += count;
    const char *bytes = flavour->batch.bytes + (size_t)first * flavour->chunk_length;
    return send_text(fd, bytes, (size_t)count * flavour->chunk_length);
}

static void answer_request(int fd);

static void pump(int fd, uint64_t now) {
    /* No stream may hold the loop: after some steps the others have their turn, and the agenda
     * (paced) or EPOLLOUT (unpaced) brings us back here. */
    int turns = 0;
    while (turns < 8 && connections[fd].stream.active && step(fd, now)) turns++;
    struct connection *connection = &connections[fd];
    if (!connection->open) return;
    if (!connection->stream.active) {
        if (connection->input_length > 0) answer_request(fd);
    } else if (connection->stream.interval == 0) {
        want_out(fd, true);
    } else if (turns == 8) {
        agenda_add(&agenda, (struct moment){now, fd, connection->generation});
    }
}

static long number_after(const char *body, const char *name, long otherwise) {
    const char *found = strstr(body, name);
    return found != NULL ? atol(found + strlen(name)) : otherwise;
}

static bool wants_stream(const char *body) {
    const char *at = strstr(body, "\"stream\"");
    if (at == NULL) return false;
    at += strlen("\"stream\"");
    at += strspn(at, " :");
    return strncmp(at, "true", 4) == 0;
}

static void start_stream(int fd, const char *body, const struct flavour *flavour) {
    struct connection *connection = &connections[fd];
    const char *order = strstr(body, "bench chunks=");
    long chunks = order != NULL ? number_after(order, "chunks=", 3) : 3;
    double rate = order != NULL && strstr(order, "rate=") != NULL ? atof(strstr(order, "rate=") + 5) : 0;
    connection->stream = (struct stream){
        .flavour = flavour,
        .chunks = chunks > 0 ? chunks : 1,
        .interval = rate > 0 ? (uint64_t)((double)SECOND / rate) : 0,
        .active = true,
    };
    open_streams++;
    started++;
    pump(fd, now_ns());
}

static void send_stats(int fd) {
    char body[512];
    snprintf(body, sizeof body,
             "{\"open\":%lld,\"started\":%lld,\"finished\":%lld,\"aborted\":%lld,\"chunks\":%lld,"
             "\"blocked\":%lld,\"late_ns_max\":%llu}",
             open_streams, started, finished, aborted, chunks_sent, blocked, (unsigned long long)late_max);
    started = finished = aborted = chunks_sent = blocked = 0;
    late_max = 0;
    free(stats.bytes);
    stats = response_of("200 OK", body);
    send_text(fd, stats.bytes, stats.length);
}

static void dispatch(int fd, const char *path, const char *body) {
    if (strcmp(path, "/bench/stats") == 0) {
        send_stats(fd);
        return;
    }
    if (strcmp(path, "/v1/chat/completions") == 0 && wants_stream(body)) {
        start_stream(fd, body, &sse);
        return;
    }
    if (strcmp(path, "/api/chat") == 0 && wants_stream(body)) {
        start_stream(fd, body, &ndjson);
        return;
    }
    const struct text *response = &not_found;
    for (size_t i = 0; i < answer_count; i++)
        if (strcmp(answers[i].path, path) == 0) response = &answers[i].response;
    send_text(fd, response->bytes, response->length);
}

/* The body's length counted from `body`, or -1 while it is not all there. */
static long body_length(const char *head, const char *body, size_t available) {
    long length = 0;
    bool chunked = false;
    for (const char *line = head; line < body; line = strstr(line, "\r\n") + 2) {
        if (strncasecmp(line, "content-length:", 15) == 0) length = atol(line + 15);
        if (strncasecmp(line, "transfer-encoding: chunked", 26) == 0) chunked = true;
    }
    if (chunked) { /* JSON holds no raw line break, so this can only be the last chunk */
        const char *end = strstr(body, "0\r\n\r\n");
        return end != NULL ? end + 5 - body : -1;
    }
    return (size_t)length <= available ? length : -1;
}

static void answer_request(int fd) {
    struct connection *connection = &connections[fd];
    connection->input[connection->input_length] = 0;
    char *end = strstr(connection->input, "\r\n\r\n");
    if (end == NULL) return;
    char *body = end + 4;
    size_t available = connection->input_length - (size_t)(body - connection->input);
    long length = body_length(connection->input, body, available);
    if (length < 0) return;
    char path[256] = "", keep = body[length];
    sscanf(connection->input, "%*15s %255[^ ?]", path);
    body[length] = 0;
    static char order[INPUT_MAX + 1];
    memcpy(order, body, (size_t)length + 1);
    body[length] = keep;
    size_t used = (size_t)(body - connection->input) + (size_t)length;
    connection->input_length -= used;
    memmove(connection->input, connection->input + used, connection->input_length);
    dispatch(fd, path, order);
}

static void read_input(int fd) {
    struct connection *connection = &connections[fd];
    size_t room = INPUT_MAX - connection->input_length;
    ssize_t count = room > 0 ? recv(fd, connection->input + connection->input_length, room, 0) : 0;
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) {
        close_connection(fd);
        return;
    }
    connection->input_length += (size_t)count;
    if (!connection->stream.active) answer_request(fd);
}

static void accept_all(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        if (fd >= FDS_MAX) {
            close(fd);
            continue;
        }
        no_delay(fd);
        struct connection *connection = &connections[fd];
        if (connection->input == NULL) connection->input = take(malloc(INPUT_MAX + 1));
        connection->open = true;
        connection->wants_out = false;
        connection->input_length = connection->out_length = 0;
        connection->stream = (struct stream){0};
        watch(poll_fd, EPOLL_CTL_ADD, fd, EPOLLIN);
    }
}

static void listen_on(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) die("bind");
    if (listen(fd, 4096) < 0) die("listen");
    listening[fd] = true;
    watch(poll_fd, EPOLL_CTL_ADD, fd, EPOLLIN);
}

static void on_event(const struct epoll_event *event) {
    int fd = event->data.fd;
    if (listening[fd]) {
        accept_all(fd);
        return;
    }
    if (!connections[fd].open) return;
    if (event->events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_input(fd);
    if (connections[fd].open && event->events & EPOLLOUT && flush(fd)) pump(fd, now_ns());
}

static void run_due(void) {
    while (agenda.count > 0 && agenda.at[0].due <= now_ns()) {
        struct moment moment = agenda_pop(&agenda);
        struct connection *connection = &connections[moment.owner];
        if (!connection->open || connection->generation != moment.generation) continue;
        /* While the reader is behind, the chunk is owed; EPOLLOUT continues the stream. */
        if (connection->stream.active && connection->out_length == 0) pump(moment.owner, now_ns());
    }
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: streammock ANSWERS PORT...\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    load_answers(argv[1]);
    make_flavours();
    not_found = response_of("404 Not Found", "{\"error\":\"not found\"}");
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 2; i < argc && i < 2 + PORTS_MAX; i++) listen_on(atoi(argv[i]));
    struct epoll_event events[512];
    for (;;) {
        int count = wait_until(poll_fd, events, 512, agenda.count > 0 ? agenda.at[0].due : 0);
        for (int i = 0; i < count; i++) on_event(&events[i]);
        run_due();
    }
}
