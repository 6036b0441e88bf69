/** Run by test_android.py in a folder of its own: what the app makes of files, in lines of numbers. */
import android.content.res.AssetManager
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.LiteRtException
import com.google.ai.edge.litert.Stub
import java.io.DataInputStream
import java.io.File
import ulsam.attention.Classifier
import ulsam.attention.Picture
import ulsam.attention.colour

fun floats(name: String) = DataInputStream(File(name).inputStream().buffered()).use { data ->
    FloatArray((File(name).length() / 4).toInt()) { data.readFloat() }
}

fun picture(name: String) = DataInputStream(File(name).inputStream().buffered()).use { data ->
    val width = data.readInt()
    val height = data.readInt()
    Picture(width, height, IntArray(width * height) { data.readInt() })
}

fun tell(name: String, values: List<Any>) = println("$name\t" + values.joinToString("\t"))

fun main() {
    val seen = picture("picture")
    tell("grey", picture("picture").prepared(20, 12, 1, listOf(0f), listOf(255f)).toList())
    val outputs = listOf("scores", "attention").associateWith { floats(it) }
    val named = File("names").readLines().zip(outputs.values).toMap()
    var given = FloatArray(0)
    val gpu: Map<String, (Map<String, FloatArray>) -> Map<String, FloatArray>> = mapOf(
        "right" to { right -> right },
        "refuses" to { _ -> throw LiteRtException("LOG_SOFTMAX") },
        "wrong" to { right -> right.mapValues { FloatArray(it.value.size) } }
    )
    for ((case, computes) in gpu) {
        Stub.outputs = { accelerator, image ->
            given = image
            if (accelerator == Accelerator.GPU) computes(named) else named
        }
        val classifier = Classifier(AssetManager(), "model.tflite")
        val result = classifier.classify(seen)
        classifier.classify(seen)
        classifier.close()
        tell("$case runs", listOf(classifier.runs, Stub.open.size))
        tell("$case answers", result.answers.flatMap { listOf(it.label, it.share) })
        if (case != "right") continue
        tell("labels", classifier.file.labels)
        tell("image", given.toList())
        val site = result.attention.single()
        tell("site", listOf(site.layer, site.height, site.width, site.groups, site.lowest, site.highest))
        for (group in 0 until site.groups) tell("group $group", site.times(group, 48, 56).toList())
        val shown = seen.shown(48, 56)
        tell("shown", shown.pixels.toList())
        tell("over", site.over(shown, 1).pixels.toList())
        tell("colours", (0..100).map { colour(it / 100f) })
        tell("scaled", site.times(1, 48, 56).map { site.scaled(it) })
    }
}
