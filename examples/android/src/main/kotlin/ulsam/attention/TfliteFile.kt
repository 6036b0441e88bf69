package ulsam.attention

import java.io.ByteArrayInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.ZipInputStream

/** An input or output by its signature name; the shape has the batch first. */
class Tensor(val name: String, val shape: List<Int>, val isFloat: Boolean)

/**
 * What `ulsam-keras convert --labels … --with-attention` wrote into a `.tflite` file for apps.
 *
 * Without Android and without LiteRT: three flatbuffers (the model, TFLite's metadata and the mark
 * of the attention) and a zip archive behind them.
 */
class TfliteFile(private val content: ByteArray) {
    val image: Tensor
    val outputs: List<Tensor>

    /** The name of each class, in the order of the scores; empty if the file tells none. */
    val labels: List<String>

    /** What is taken off pixels of 0 to 255, and what they are then divided by: one, or one a channel. */
    val mean: List<Float>
    val std: List<Float>

    /** The layer by the name of each output that is attention, of shape (1, H, W, groups). */
    val attention: Map<String, String>

    init {
        val model = Table.root(content)
        val graph = model.tables(SUBGRAPHS).first()
        val signature = model.tables(SIGNATURES).firstOrNull()
        require(signature != null) { "The file must have a signature. Received: none" }
        fun named(slot: Int) = signature.tables(slot).map { entry ->
            val tensor = graph.tables(TENSORS)[entry.int(1)]
            Tensor(entry.text(0), tensor.ints(0), tensor.byte(1) == FLOAT32)
        }
        val inputs = named(0)
        outputs = named(1)
        require(inputs.size == 1 && inputs[0].shape.size == 4 && inputs[0].shape[3] in listOf(1, 3)) {
            "The model must take one image of 1 or 3 channels. Received: ${inputs.map { it.shape }}"
        }
        image = inputs[0]
        require((inputs + outputs).all { it.isFloat }) {
            "Convert with inputs and outputs of float32. Received: integers in ${inputs[0].name} or the outputs"
        }
        val buffers = model.tables(BUFFERS)
        val entries = model.tables(METADATA).associate { it.text(0) to buffers[it.int(1)].bytes(0) }
        val unit = entries["TFLITE_METADATA"]?.let { Table.root(it) }
            ?.tables(3)?.firstOrNull() // the subgraph
            ?.tables(2)?.firstOrNull() // its input
            ?.tables(4)?.firstOrNull { it.byte(0) == NORMALIZATION }?.child(1)
        mean = unit?.floats(0) ?: listOf(0f)
        std = unit?.floats(1) ?: listOf(255f)
        attention = strings(entries["ulsam_attention"]?.toString(Charsets.UTF_8) ?: "{}")
        labels = archived("labels.txt")?.lines()?.filter { it.isNotEmpty() } ?: emptyList()
    }

    /** The one output that is no attention. */
    val scores: Tensor
        get() {
            val found = outputs.filter { it.name !in attention }
            require(found.size == 1 && found[0].shape.size == 2) {
                "The model must have one output of classes. Received: ${found.map { it.name to it.shape }}"
            }
            return found[0]
        }

    /** A file of the archive that follows the flatbuffer; null if there is none. */
    private fun archived(name: String): String? {
        val bytes = ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN)
        val end = content.size - END_SIZE // the end record, without a comment
        if (end < 0 || bytes.getInt(end) != END_MARK) return null
        val first = bytes.getInt(bytes.getInt(end + 16) + 42) // of the directory: of its first file
        val archive = ZipInputStream(ByteArrayInputStream(content, first, content.size - first))
        while (true) {
            val entry = archive.nextEntry ?: return null
            if (entry.name == name) return archive.readBytes().toString(Charsets.UTF_8)
        }
    }

    private companion object {
        const val SUBGRAPHS = 2
        const val BUFFERS = 4
        const val METADATA = 6
        const val SIGNATURES = 7
        const val TENSORS = 0
        const val FLOAT32 = 0
        const val NORMALIZATION = 1
        const val END_SIZE = 22
        const val END_MARK = 0x06054b50

        val PAIR = Regex("\"((?:[^\"\\\\]|\\\\.)*)\"\\s*:\\s*\"((?:[^\"\\\\]|\\\\.)*)\"")
        val ESCAPE = Regex("\\\\(u[0-9a-fA-F]{4}|.)")

        /** An object of strings in JSON. */
        fun strings(json: String): Map<String, String> = PAIR.findAll(json).associate { pair ->
            plain(pair.groupValues[1]) to plain(pair.groupValues[2])
        }

        fun plain(text: String) = ESCAPE.replace(text) { found ->
            val code = found.groupValues[1]
            if (code.length == 5) code.substring(1).toInt(16).toChar().toString() else code
        }
    }
}

/** A table of a flatbuffer: fields by their numbers in the schema, absent ones as the schema's defaults. */
private class Table(private val data: ByteBuffer, private val at: Int) {
    private fun field(slot: Int): Int? {
        val layout = at - data.getInt(at)
        val entry = 4 + 2 * slot
        if (entry >= data.getShort(layout)) return null
        return data.getShort(layout + entry).toInt().let { if (it == 0) null else at + (it and 0xffff) }
    }

    private fun target(place: Int) = place + data.getInt(place)

    /** Where the elements of a vector are, each of a size. */
    private fun places(slot: Int, size: Int): List<Int> {
        val start = target(field(slot) ?: return emptyList())
        return (0 until data.getInt(start)).map { start + 4 + size * it }
    }

    fun byte(slot: Int) = field(slot)?.let { data.get(it).toInt() } ?: 0

    fun int(slot: Int) = field(slot)?.let { data.getInt(it) } ?: 0

    fun child(slot: Int) = field(slot)?.let { Table(data, target(it)) }

    fun ints(slot: Int) = places(slot, 4).map { data.getInt(it) }

    fun floats(slot: Int) = places(slot, 4).map { data.getFloat(it) }

    fun tables(slot: Int) = places(slot, 4).map { Table(data, target(it)) }

    fun bytes(slot: Int): ByteArray {
        val start = target(field(slot) ?: return ByteArray(0))
        return data.array().copyOfRange(start + 4, start + 4 + data.getInt(start))
    }

    fun text(slot: Int) = bytes(slot).toString(Charsets.UTF_8)

    companion object {
        fun root(content: ByteArray): Table {
            val data = ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN)
            return Table(data, data.getInt(0))
        }
    }
}
