/** What the app uses of `com.google.ai.edge.litert:litert:2.3.0`, by its published sources. */
package com.google.ai.edge.litert

import android.content.res.AssetManager

enum class Accelerator { NONE, CPU, GPU, NPU }

class LiteRtException(message: String) : Exception(message)

/** What a test lets an accelerator compute: the outputs by name, or an error. */
object Stub {
    lateinit var outputs: (Accelerator, FloatArray) -> Map<String, FloatArray>
    val open = mutableListOf<AutoCloseable>()
}

abstract class JniHandle internal constructor() : AutoCloseable {
    init {
        Stub.open += this
    }

    final override fun close() {
        Stub.open -= this
    }
}

class TensorBuffer internal constructor() : JniHandle() {
    internal var values = FloatArray(0)

    fun writeFloat(data: FloatArray) {
        values = data
    }

    fun readFloat(): FloatArray = values
}

class CompiledModel private constructor(private val options: Options) : JniHandle() {
    class Options(internal vararg val accelerators: Accelerator)

    fun createInputBuffer(inputName: String, signature: String? = null) = TensorBuffer()

    fun createOutputBuffer(outputName: String, signature: String? = null) = TensorBuffer()

    fun run(inputs: Map<String, TensorBuffer>, outputs: Map<String, TensorBuffer>, signature: String? = null) {
        val computed = Stub.outputs(options.accelerators.single(), inputs.values.single().values)
        for ((name, buffer) in outputs) buffer.writeFloat(computed.getValue(name))
    }

    companion object {
        fun create(assetManager: AssetManager, assetName: String, options: Options): CompiledModel {
            assetManager.open(assetName).close()
            return CompiledModel(options)
        }
    }
}
