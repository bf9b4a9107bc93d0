/* A shim without TensorRT: the interface of board/jetson/trt_shim.cc, whose section `ABI` the test writes to trt_abi.h. Its engine is the network of
 * tests/common/tiny, written down by hand. What goes wrong is asked for by the environment:
 *
 *     MOCK_FAIL       what fails: no_driver no_device no_library wrong_version build load run run_later null_plan null_engine garbage
 *                     lies long_message
 *     MOCK_ABI        the number of the interface
 *     MOCK_UNTIL      a build takes until there is a file of this name
 *     MOCK_TENSORRT   version of TensorRT, four numbers
 *     MOCK_GPU        name of the GPU
 *     MOCK_LOG        a file that gets a line for each call
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "trt_abi.h"

static const char MAGIC[] = "mock engine of ";

struct fcam_trt_engine {
    int32_t width, height;
    float *input, *logits, *map;
};

static const char *set(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value == NULL || *value == 0 ? otherwise : value;
}

static int fails(const char *what) { return strcmp(set("MOCK_FAIL", ""), what) == 0; }

static void note(const char *call) {
    FILE *file = *set("MOCK_LOG", "") == 0 ? NULL : fopen(getenv("MOCK_LOG"), "a");
    if (file != NULL) {
        fprintf(file, "%s\n", call);
        fclose(file);
    }
}

static int32_t refuse(int32_t code, const char *why, char *message, size_t room) {
    snprintf(message, room, "%s", why);
    return code;
}

#ifndef FOREIGN
int32_t fcam_trt_abi(void) { return atoi(set("MOCK_ABI", "1")); }
#endif

void fcam_trt_set_log(fcam_trt_log log) {
    if (log != NULL) {
        log(2, "a warning\nof two lines");
    }
}

int32_t fcam_trt_probe(struct fcam_trt_facts *facts, char *message, size_t room) {
    note("probe");
    memset(facts, 0, sizeof *facts);
    facts->header[0] = 10, facts->header[1] = 3;
    facts->cudart = 12060;
    sscanf(set("MOCK_TENSORRT", "10.3.0.30"), "%d.%d.%d.%d", &facts->library[0], &facts->library[1], &facts->library[2], &facts->library[3]);
    if (fails("no_driver")) {
        return refuse(FCAM_TRT_NO_DRIVER, "there is no CUDA driver: mock", message, room);
    }
    facts->driver = 12060;
    if (fails("no_device")) {
        return refuse(FCAM_TRT_NO_DEVICE, "the CUDA driver finds no GPU", message, room);
    }
    facts->devices = 1, facts->integrated = 1, facts->memory = (int64_t)8 << 30;
    facts->capability[0] = 8, facts->capability[1] = 7;
    snprintf(facts->name, sizeof facts->name, "%s", set("MOCK_GPU", "Orin"));
    facts->typed = facts->library[0] >= 11;
    if (fails("no_library")) {
        return refuse(FCAM_TRT_NO_LIBRARY, "libnvinfer.so.10 cannot be opened: mock", message, room);
    }
    if (fails("wrong_version")) {
        return refuse(FCAM_TRT_WRONG_VERSION, "this shim was compiled for TensorRT 8 and there is 10.3.0: compile it again on this device", message, room);
    }
    if (fails("long_message")) { /* one that fills all of its room, without an end that is a letter of it */
        memset(message, 0xFF, room);
        return FCAM_TRT_INTERNAL;
    }
    return FCAM_TRT_OK;
}

static void sleep_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

int32_t fcam_trt_build(const void *onnx, size_t bytes, uint32_t flags, fcam_trt_progress progress, void *context, void **plan,
                       size_t *plan_bytes, char *message, size_t room) {
    note("build");
    if (fails("build")) {
        return refuse(FCAM_TRT_BUILD, "TensorRT does not take the network: stem (Conv): mock", message, room);
    }
    for (int step = 0; *set("MOCK_UNTIL", "") != 0 && access(getenv("MOCK_UNTIL"), F_OK) != 0; ++step) {
        if (progress(context, "Computing profile costs", step, 0) != 0) {
            return refuse(FCAM_TRT_CANCELLED, "the build was given up", message, room);
        }
        sleep_ms(20);
    }
    if (onnx == NULL || bytes == 0 || flags != FCAM_TRT_INT8) {
        return refuse(FCAM_TRT_ARGUMENT, "these are not the arguments of the tiny network", message, room);
    }
    *plan = NULL, *plan_bytes = 0;
    if (!fails("null_plan")) {
        char *text = malloc(64);
        *plan_bytes = (size_t)snprintf(text, 64, "%s%zu bytes", MAGIC, bytes);
        *plan = text;
    }
    return FCAM_TRT_OK;
}

void fcam_trt_free(void *plan) { free(plan); }

int32_t fcam_trt_load(const void *plan, size_t bytes, const struct fcam_trt_shape *shape, struct fcam_trt_engine **engine,
                      struct fcam_trt_ports *ports, char *message, size_t room) {
    note("load");
    if (fails("load") || bytes < sizeof MAGIC || memcmp(plan, MAGIC, sizeof MAGIC - 1) != 0) {
        return refuse(FCAM_TRT_LOAD, "TensorRT does not take the engine: mock", message, room);
    }
    *engine = NULL;
    if (fails("null_engine")) {
        return FCAM_TRT_OK;
    }
    struct fcam_trt_engine *made = calloc(1, sizeof *made);
    const size_t pixels = (size_t)shape->width * (size_t)shape->height;
    made->width = shape->width, made->height = shape->height;
    made->input = calloc(3 * pixels, sizeof(float));
    made->logits = calloc((size_t)shape->classes, sizeof(float));
    made->map = calloc(pixels, sizeof(float));
    ports->input = made->input, ports->logits = made->logits, ports->map = made->map;
    ports->zero_copy = 1, ports->graph = 1;
    *engine = made;
    return FCAM_TRT_OK;
}

/* Not negative, in steps of 1/127, at most 1: a Relu and the quantisation behind it. */
static float relu(float value) { return value <= 0 ? 0 : fminf(nearbyintf(value * 127), 127) / 127; }

/* The network of make_tiny.py: means of 3 x 3 pixels and middle pixels at half the size, above and below middle gray. */
static void infer(struct fcam_trt_engine *engine) {
    const int width = engine->width, height = engine->height, half = width / 2;
    float sums[2] = {0, 0};
    for (int y = 0; y < height / 2; ++y) {
        for (int x = 0; x < half; ++x) {
            float mean = 0, middle = 0;
            for (int channel = 0; channel < 3; ++channel) {
                const float *plane = engine->input + channel * width * height;
                for (int dy = -1; dy <= 1; ++dy) {
                    for (int dx = -1; dx <= 1; ++dx) {
                        const int row = 2 * y + dy, column = 2 * x + dx;
                        const int inside = row >= 0 && row < height && column >= 0 && column < width;
                        mean += inside ? plane[row * width + column] / 27 : 0;
                    }
                }
                middle += plane[2 * y * width + 2 * x] / 3;
            }
            const float stem[4] = {relu(mean), relu(-mean), relu(middle), relu(-middle)};
            const float mix[4] = {relu((stem[0] + stem[2]) / 2), relu((stem[1] + stem[3]) / 2), stem[0], stem[1]};
            sums[0] += mix[0], sums[1] += mix[1];
            const float probability = 1 / (1 + expf(-(10 * (mix[1] + mix[3] - mix[0] - mix[2]) - 14)));
            for (int index = 0; index < 4; ++index) {
                engine->map[(2 * y + index / 2) * width + 2 * x + index % 2] = probability;
            }
        }
    }
    const float cells = (float)(half * (height / 2));
    const float bright = 8 * (relu(sums[0] / cells) - relu(sums[1] / cells));
    engine->logits[0] = bright, engine->logits[1] = -bright;
}

int32_t fcam_trt_run(struct fcam_trt_engine *engine, char *message, size_t room) {
    static int runs = 0;
    if (fails("run") || (fails("run_later") && runs++ > 12)) { /* after the proof and the warm-up */
        return refuse(FCAM_TRT_RUN, "the GPU failed: cudaErrorIllegalAddress (mock)", message, room);
    }
    infer(engine);
    if (fails("garbage")) {
        engine->logits[0] = NAN;
    }
    if (fails("lies")) {
        engine->logits[0] = -engine->logits[0], engine->logits[1] = -engine->logits[1];
    }
    return FCAM_TRT_OK;
}

void fcam_trt_unload(struct fcam_trt_engine *engine) {
    note("unload");
    free(engine->input);
    free(engine->logits);
    free(engine->map);
    free(engine);
}
