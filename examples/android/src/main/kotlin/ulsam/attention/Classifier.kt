package ulsam.attention

import android.content.res.AssetManager
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.LiteRtException

/** What the model says of a picture. */
class Result(val answers: List<Answer>, val attention: List<Attention>)

/**
 * A model of the assets on the GPU, or on the CPU where the GPU refuses it or computes it wrongly.
 *
 * The GPU is asked for alone: with the CPU to fall back on, LiteRT spreads the operators that the GPU
 * refuses over both without a word. The first picture is computed on both, and the GPU stays only if
 * the two agree. What cannot be caught is a driver that ends the process.
 */
class Classifier(private val assets: AssetManager, private val asset: String) : AutoCloseable {
    val file = TfliteFile(assets.open(asset).use { it.readBytes() })

    /** What runs the model, and why it is not the GPU. */
    var runs = ""
        private set
    private var model: CompiledModel? = null

    fun classify(picture: Picture): Result {
        val (_, height, width, channels) = file.image.shape
        val image = picture.prepared(height, width, channels, file.mean, file.std)
        val found = model?.let { run(it, image) } ?: first(image)
        val scores = found.getValue(file.scores.name)
        return Result(
            answers(scores, file.labels, most = 3),
            file.outputs.filter { it.name in file.attention }.map {
                Attention(file.attention.getValue(it.name), it.shape, found.getValue(it.name))
            }
        )
    }

    /** What the CPU answers, and what runs the model from now on. */
    private fun first(image: FloatArray): Map<String, FloatArray> {
        val onCpu = compiled(Accelerator.CPU)
        val wanted = run(onCpu, image)
        try {
            val onGpu = compiled(Accelerator.GPU)
            val found = try {
                run(onGpu, image)
            } catch (error: LiteRtException) {
                onGpu.close()
                throw error
            }
            val apart = wanted.map { (name, values) -> difference(found.getValue(name), values) }
                .fold(0f) { most, value -> maxOf(most, value) }
            if (apart <= LIMIT) {
                onCpu.close()
                model = onGpu
                runs = "GPU"
                return found
            }
            onGpu.close()
            runs = "CPU: the GPU is off by ${"%.0f".format(100 * apart)} %"
        } catch (error: LiteRtException) {
            runs = "CPU: the GPU refuses the model, ${error.message}"
        }
        model = onCpu
        return wanted
    }

    private fun compiled(accelerator: Accelerator) =
        CompiledModel.create(assets, asset, CompiledModel.Options(accelerator))

    /** The outputs by their names. */
    private fun run(model: CompiledModel, image: FloatArray): Map<String, FloatArray> {
        val input = model.createInputBuffer(file.image.name)
        val outputs = file.outputs.associate { it.name to model.createOutputBuffer(it.name) }
        try {
            input.writeFloat(image)
            model.run(mapOf(file.image.name to input), outputs)
            return outputs.mapValues { it.value.readFloat() } // waits for the GPU
        } finally {
            input.close()
            outputs.values.forEach { it.close() }
        }
    }

    override fun close() {
        model?.close()
    }

    private companion object {
        /** The GPU computes in half precision: its attention was up to 7e-2 off where it was right. */
        const val LIMIT = 0.1f
    }
}
