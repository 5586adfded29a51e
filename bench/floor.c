/*
 * The floor: the cost in the kernel alone of sending one stream to many viewers.
 *
 *   floor PORT WINDOW_MS
 *
 * One port serves both sides. A client that sends "FLV" first is the publisher: an FLV stream over
 * plain TCP. Any other client is a viewer: it gets an HTTP response and the stream from the next tag
 * boundary on. The publisher's data is collected for WINDOW_MS and then sent with one send() to each
 * viewer: the same bytes from the same memory, no copies, no queues, no state per viewer but a
 * descriptor. With a window of 0 it is sent as it arrives. A viewer whose socket does not accept a
 * whole batch is disconnected: there is no place to keep_header the rest.
 *
 * This is not a server. It is the baseline for the cost of servers.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FD = 65536, BATCH = 16 << 20, HEADER = 64 << 10, EVENTS = 256, TAG_HEADER = 11, TAG_SIZE = 4 };

enum state { UNUSED, NEW, VIEWER, PUBLISHER };

static unsigned char state[MAX_FD];
static int viewers[MAX_FD], index_of[MAX_FD], count;

static unsigned char batch[BATCH];   /* data since the last send; whole tags up to `whole` */
static size_t filled, whole;
static unsigned char header[HEADER]; /* file header, metadata and sequence headers for new viewers */
static size_t header_size;
static int header_read;                    /* the file header was read */

static const char response[] = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: video/x-flv\r\n\r\n";

static void die(const char *what) {
	perror(what);
	exit(1);
}

static int64_t now_ms(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void disconnect(int fd) {
	if (state[fd] == VIEWER) {
		int last = viewers[--count];
		viewers[index_of[fd]] = last;
		index_of[last] = index_of[fd];
	}
	if (state[fd] == PUBLISHER)
		filled = whole = header_size = header_read = 0;
	state[fd] = UNUSED;
	close(fd);
}

static int send_all(int fd, const void *p, size_t n) {
	return send(fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)n;
}

static void flush(void) {
	if (whole == 0)
		return;
	for (int i = count - 1; i >= 0; i--)
		if (!send_all(viewers[i], batch, whole))
			disconnect(viewers[i]);
	memmove(batch, batch + whole, filled - whole);
	filled -= whole;
	whole = 0;
}

/* keep_header stores a part of the stream that new viewers get first. */
static void keep_header(const unsigned char *p, size_t n) {
	if (header_size + n > sizeof header)
		return;
	memcpy(header + header_size, p, n);
	header_size += n;
}

static int is_header(const unsigned char *tag) {
	const unsigned char *body = tag + TAG_HEADER;
	return tag[0] == 18 || (tag[0] == 9 && body[0] == 0x17 && body[1] == 0) ||
		(tag[0] == 8 && body[0] >> 4 == 10 && body[1] == 0);
}

/* find_tags finds the tags that are complete. */
static void find_tags(void) {
	const size_t file_header = 9 + TAG_SIZE;
	if (!header_read && filled >= file_header) {
		keep_header(batch, file_header);
		memmove(batch, batch + file_header, filled -= file_header);
		header_read = 1;
	}
	while (header_read && filled - whole > TAG_HEADER) {
		unsigned char *tag = batch + whole;
		size_t size = TAG_HEADER + ((size_t)tag[1] << 16 | tag[2] << 8 | tag[3]) + TAG_SIZE;
		if (filled - whole < size)
			return;
		if (is_header(tag))
			keep_header(tag, size);
		whole += size;
	}
}

static void add_viewer(int fd) {
	state[fd] = VIEWER;
	index_of[fd] = count;
	viewers[count++] = fd;
	if (!send_all(fd, response, sizeof response - 1) || (header_size && !send_all(fd, header, header_size)))
		disconnect(fd);
}

static void readable(int fd, int window) {
	char request[4096];
	ssize_t n;
	if (state[fd] == PUBLISHER) {
		n = recv(fd, batch + filled, sizeof batch - filled, MSG_DONTWAIT);
		if (n > 0) {
			filled += n;
			find_tags();
			if (window == 0)
				flush();
			return;
		}
	} else if (state[fd] == NEW) {
		n = recv(fd, request, 3, MSG_DONTWAIT | MSG_PEEK);
		if (n >= 3 && memcmp(request, "FLV", 3) == 0) {
			state[fd] = PUBLISHER;
			return; /* epoll reports it again */
		}
		if (n > 0 && recv(fd, request, sizeof request, MSG_DONTWAIT) > 0) {
			add_viewer(fd);
			return;
		}
	} else {
		n = recv(fd, request, sizeof request, MSG_DONTWAIT);
		if (n > 0)
			return;
	}
	if (n == 0 || errno != EAGAIN)
		disconnect(fd);
}

static void accept_clients(int listener, int epoll) {
	int one = 1, fd;
	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
		if (fd >= MAX_FD || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0) {
			close(fd);
			continue;
		}
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		state[fd] = NEW;
	}
}

int main(int argc, char **argv) {
	if (argc != 3) {
		fprintf(stderr, "usage: floor PORT WINDOW_MS\n");
		return 2;
	}
	int window = atoi(argv[2]), one = 1;
	signal(SIGPIPE, SIG_IGN);
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(listener, 4096) < 0)
		die("listen");
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event e = {.events = EPOLLIN, .data.fd = listener}, events[EVENTS];
	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e) < 0)
		die("epoll");
	for (int64_t due = now_ms() + window;;) {
		int64_t left = due - now_ms();
		int n = epoll_wait(epoll, events, EVENTS, window == 0 ? -1 : left > 0 ? (int)left : 0);
		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;
			if (fd == listener)
				accept_clients(listener, epoll);
			else
				readable(fd, window);
		}
		if (window > 0 && now_ms() >= due) {
			flush();
			int64_t now = now_ms();
			due = due + window > now ? due + window : now; /* sending takes no time of the window */
		}
	}
}
