/*
 * The floor: what the kernel alone charges for handing one stream to many viewers.
 *
 *   floor PORT WINDOW_MS
 *
 * One port takes both sides. Who sends "FLV" first is the publisher: an FLV stream over plain TCP. Who sends anything else is
 * a viewer, who is answered as by HTTP and gets the stream from the next tag boundary on. What arrives from the publisher is collected
 * for WINDOW_MS and then goes out with one send() to each viewer: the same bytes from the same place, no copies, no queues, no
 * per-viewer state but a descriptor. With a window of 0 it goes out as it arrives. A viewer whose socket does not take
 * all of a batch is closed: there is nothing here to keep the rest in.
 *
 * This is no server. It is what a server's cost is compared with.
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

enum state { NOBODY, NEW, VIEWER, PUBLISHER };

static unsigned char state[MAX_FD];
static int viewers[MAX_FD], where[MAX_FD], count;

static unsigned char batch[BATCH];   /* since the last send; whole tags up to `whole` */
static size_t filled, whole;
static unsigned char header[HEADER]; /* file header, metadata and sequence headers: what newcomers need */
static size_t header_size;
static int begun;                    /* the file header has passed */

static const char answer[] = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: video/x-flv\r\n\r\n";

static void die(const char *what) {
	perror(what);
	exit(1);
}

static int64_t now_ms(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void leave(int fd) {
	if (state[fd] == VIEWER) {
		int last = viewers[--count];
		viewers[where[fd]] = last;
		where[last] = where[fd];
	}
	if (state[fd] == PUBLISHER)
		filled = whole = header_size = begun = 0;
	state[fd] = NOBODY;
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
			leave(viewers[i]);
	memmove(batch, batch + whole, filled - whole);
	filled -= whole;
	whole = 0;
}

/* keep puts a part of the stream among what newcomers get first. */
static void keep(const unsigned char *p, size_t n) {
	if (header_size + n > sizeof header)
		return;
	memcpy(header + header_size, p, n);
	header_size += n;
}

static int is_header(const unsigned char *tag) {
	const unsigned char *body = tag + TAG_HEADER;
	return tag[0] == 18 || (tag[0] == 9 && body[0] == 0x17 && body[1] == 0) || (tag[0] == 8 && body[0] >> 4 == 10 && body[1] == 0);
}

/* cut finds the tags that have become whole. */
static void cut(void) {
	const size_t file_header = 9 + TAG_SIZE;
	if (!begun && filled >= file_header) {
		keep(batch, file_header);
		memmove(batch, batch + file_header, filled -= file_header);
		begun = 1;
	}
	while (begun && filled - whole > TAG_HEADER) {
		unsigned char *tag = batch + whole;
		size_t size = TAG_HEADER + ((size_t)tag[1] << 16 | tag[2] << 8 | tag[3]) + TAG_SIZE;
		if (filled - whole < size)
			return;
		if (is_header(tag))
			keep(tag, size);
		whole += size;
	}
}

static void welcome(int fd) {
	state[fd] = VIEWER;
	where[fd] = count;
	viewers[count++] = fd;
	if (!send_all(fd, answer, sizeof answer - 1) || (header_size && !send_all(fd, header, header_size)))
		leave(fd);
}

static void readable(int fd, int window) {
	char request[4096];
	ssize_t n;
	if (state[fd] == PUBLISHER) {
		n = recv(fd, batch + filled, sizeof batch - filled, MSG_DONTWAIT);
		if (n > 0) {
			filled += n;
			cut();
			if (window == 0)
				flush();
			return;
		}
	} else if (state[fd] == NEW) {
		n = recv(fd, request, 3, MSG_DONTWAIT | MSG_PEEK);
		if (n >= 3 && memcmp(request, "FLV", 3) == 0) {
			state[fd] = PUBLISHER;
			return; /* epoll tells again */
		}
		if (n > 0 && recv(fd, request, sizeof request, MSG_DONTWAIT) > 0) {
			welcome(fd);
			return;
		}
	} else {
		n = recv(fd, request, sizeof request, MSG_DONTWAIT);
		if (n > 0)
			return;
	}
	if (n == 0 || errno != EAGAIN)
		leave(fd);
}

static void newcomer(int listener, int epoll) {
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
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
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
				newcomer(listener, epoll);
			else
				readable(fd, window);
		}
		if (window > 0 && now_ms() >= due) {
			flush();
			due = now_ms() + window;
		}
	}
}
