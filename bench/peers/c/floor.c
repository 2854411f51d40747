/* What any extension method of CPython pays: calls of our signatures that do nothing but the system
 * call and return what was made before. Built by bench/host.py; a socket that sends to itself. */
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

enum { SIZE = 64, BATCH = 64, ROOM = 128 };

typedef struct {
    PyObject_HEAD
    int fd;
    struct sockaddr_in here;
    PyObject *sent, *got; /* results, made once */
    char payload[2048], buffer[65536], control[ROOM], told[ROOM];
    size_t told_size;
    struct mmsghdr out[BATCH], back[BATCH];
    struct iovec out_vectors[BATCH], back_vectors[BATCH];
    char slots[BATCH][SIZE], controls[BATCH][ROOM];
} Floor;

static int
Floor_init(Floor *self, PyObject *args, PyObject *kwds)
{
    struct in_pktinfo info = {.ipi_ifindex = 1};
    socklen_t size = sizeof(self->here);
    struct cmsghdr *cmsg = (struct cmsghdr *)self->told;
    Py_ssize_t length;
    char *given;
    if (!PyArg_ParseTuple(args, "is#", &self->fd, &given, &length))
        return -1;
    if (length > (Py_ssize_t)sizeof(self->payload)) {
        PyErr_SetString(PyExc_ValueError, "the payload is too long");
        return -1;
    }
    memcpy(self->payload, given, (size_t)length);
    if (getsockname(self->fd, (struct sockaddr *)&self->here, &size)) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    info.ipi_spec_dst.s_addr = htonl(INADDR_LOOPBACK);
    cmsg->cmsg_level = IPPROTO_IP;
    cmsg->cmsg_type = IP_PKTINFO;
    cmsg->cmsg_len = CMSG_LEN(sizeof(info));
    memcpy(CMSG_DATA(cmsg), &info, sizeof(info));
    self->told_size = CMSG_SPACE(sizeof(info));
    for (int i = 0; i < BATCH; i++) {
        self->out_vectors[i] = (struct iovec){self->payload, SIZE};
        self->back_vectors[i] = (struct iovec){self->slots[i], SIZE};
        self->out[i].msg_hdr = (struct msghdr){
            .msg_name = &self->here, .msg_namelen = sizeof(self->here),
            .msg_iov = &self->out_vectors[i], .msg_iovlen = 1,
            .msg_control = self->told, .msg_controllen = self->told_size};
    }
    self->sent = PyLong_FromSsize_t(length);
    self->got = Py_BuildValue("(nO(si))", length, Py_None, "127.0.0.1",
                              (int)ntohs(self->here.sin_port));
    return self->sent && self->got ? 0 : -1;
}

static void
Floor_dealloc(Floor *self)
{
    Py_XDECREF(self->sent);
    Py_XDECREF(self->got);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *
result(ssize_t outcome, PyObject *value)
{
    if (outcome < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return Py_NewRef(value);
}

/* write_to(payload, addr): its own payload and address are as long */
static PyObject *
write_to(Floor *self, PyObject *const *args, Py_ssize_t nargs)
{
    size_t length = (size_t)PyLong_AsSsize_t(self->sent);
    if (nargs < 3)
        return result(sendto(self->fd, self->payload, length, 0, (struct sockaddr *)&self->here,
                             sizeof(self->here)), self->sent);
    struct iovec vector = {self->payload, length};
    struct msghdr header = {
        .msg_name = &self->here, .msg_namelen = sizeof(self->here), .msg_iov = &vector,
        .msg_iovlen = 1, .msg_control = self->told, .msg_controllen = self->told_size};
    return result(sendmsg(self->fd, &header, 0), self->sent);
}

/* read_from(buffer): into its own buffer */
static PyObject *
read_from(Floor *self, PyObject *const *args, Py_ssize_t nargs)
{
    struct sockaddr_in peer;
    socklen_t size = sizeof(peer);
    return result(recvfrom(self->fd, self->buffer, sizeof(self->buffer), 0,
                           (struct sockaddr *)&peer, &size), self->got);
}

static PyObject *
read_from_cm(Floor *self, PyObject *const *args, Py_ssize_t nargs)
{
    struct sockaddr_in peer;
    struct iovec vector = {self->buffer, sizeof(self->buffer)};
    struct msghdr header = {
        .msg_name = &peer, .msg_namelen = sizeof(peer), .msg_iov = &vector, .msg_iovlen = 1,
        .msg_control = self->control, .msg_controllen = ROOM};
    return result(recvmsg(self->fd, &header, 0), self->got);
}

static PyObject *
write_batch(Floor *self, PyObject *const *args, Py_ssize_t nargs)
{
    return result(sendmmsg(self->fd, self->out, BATCH, 0), self->sent);
}

static PyObject *
read_batch(Floor *self, PyObject *const *args, Py_ssize_t nargs)
{
    for (int i = 0; i < BATCH; i++)
        self->back[i].msg_hdr = (struct msghdr){
            .msg_iov = &self->back_vectors[i], .msg_iovlen = 1,
            .msg_control = self->controls[i], .msg_controllen = ROOM};
    return result(recvmmsg(self->fd, self->back, BATCH, 0, NULL), self->sent);
}

#define METHOD(name) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, NULL}
static PyMethodDef methods[] = {METHOD(write_to), METHOD(read_from), METHOD(read_from_cm),
                                METHOD(write_batch), METHOD(read_batch), {NULL}};

static PyTypeObject FloorType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "floor.Floor",
    .tp_basicsize = sizeof(Floor),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)Floor_init,
    .tp_dealloc = (destructor)Floor_dealloc,
    .tp_methods = methods,
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "floor", NULL, -1};

PyMODINIT_FUNC
PyInit_floor(void)
{
    if (PyType_Ready(&FloorType) < 0)
        return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made == NULL || PyModule_AddObject(made, "Floor", Py_NewRef(&FloorType)) < 0)
        return NULL;
    return made;
}
